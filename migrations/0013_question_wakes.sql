-- A wake for a question goes when the question does, so that nobody is woken for one that is answered.

alter table wake add column question_id uuid;
