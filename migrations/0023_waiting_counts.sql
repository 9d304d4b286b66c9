-- What waits behind a gate is counted by index alone, as what can start and what runs is. Tasks that nobody holds or delays
-- never enter this index.
create index task_live_waiting_by_route on task_live (route_id) where gate in (1, 2);
