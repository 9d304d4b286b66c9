//! What of a schema its users can feel: tables with columns, what rows must satisfy, and functions.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

/// The tables of a schema, and of each what holds of its rows.
#[derive(Debug, Default)]
pub struct Catalog {
    pub tables: BTreeMap<String, Table>,
    /// By name and types of arguments.
    pub functions: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub struct Table {
    pub columns: BTreeMap<String, Column>,
    /// Constraints, unique indexes and triggers, each by its name.
    pub rules: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    pub type_name: String,
    pub is_required: bool,
    /// The value that it has where a row names none; empty: null, or none.
    pub default: String,
}

const COLUMNS: &str = "\
    select c.relname::text as table_name, a.attname::text as name, format_type(a.atttypid, a.atttypmod) as type_name,
           a.attnotnull as is_required,
           case when a.attidentity <> '' then 'identity ' || a.attidentity::text
                when a.attgenerated <> '' then 'generated'
                else coalesce(pg_get_expr(d.adbin, d.adrelid), '') end as default_value
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
     where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname <> '_sqlx_migrations'";

/// Since PostgreSQL 18 NOT NULL is a constraint, too; it is told with the column.
const RULES: &str = "\
    select c.relname::text as table_name, r.conname::text as name, pg_get_constraintdef(r.oid) as rule
      from pg_constraint r join pg_class c on c.oid = r.conrelid
     where c.relnamespace = 'public'::regnamespace and c.relname <> '_sqlx_migrations' and r.contype <> 'n'
    union all
    select c.relname::text, i.relname::text, pg_get_indexdef(x.indexrelid)
      from pg_index x join pg_class c on c.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
     where c.relnamespace = 'public'::regnamespace and c.relname <> '_sqlx_migrations' and x.indisunique
       and not exists (select from pg_constraint r where r.conindid = x.indexrelid)
    union all
    select c.relname::text, t.tgname::text, pg_get_triggerdef(t.oid)
      from pg_trigger t join pg_class c on c.oid = t.tgrelid
     where c.relnamespace = 'public'::regnamespace and not t.tgisinternal";

const FUNCTIONS: &str = "\
    select p.oid::regprocedure::text, pg_get_functiondef(p.oid)
      from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'";

impl Catalog {
    pub async fn read(connection: &mut PgConnection) -> Catalog {
        let mut catalog = Catalog::default();
        let columns = sqlx::query(COLUMNS).fetch_all(&mut *connection).await;
        for row in columns.expect("the columns") {
            let column = Column {
                type_name: row.get("type_name"),
                is_required: row.get("is_required"),
                default: row.get("default_value"),
            };
            let table = catalog.tables.entry(row.get("table_name")).or_default();
            table.columns.insert(row.get("name"), column);
        }
        let functions = sqlx::query_as(FUNCTIONS).fetch_all(&mut *connection).await;
        let functions: Vec<(String, String)> = functions.expect("the functions");
        catalog.functions = functions.into_iter().collect();
        let rules = sqlx::query(RULES).fetch_all(connection).await;
        for row in rules.expect("the rules") {
            let table = catalog.tables.entry(row.get("table_name")).or_default();
            table.rules.insert(row.get("name"), row.get("rule"));
        }
        catalog
    }

    /// What programs that were made for `self` may stumble over in `now`; each as a line that names it.
    pub fn obstacles(&self, now: &Catalog) -> Vec<String> {
        let mut found = Vec::new();
        for (name, then) in &self.tables {
            match now.tables.get(name) {
                Some(now) => then.obstacles(name, now, &mut found),
                None => found.push(format!("{name} is gone")),
            }
        }
        for (name, then) in &self.functions {
            match now.functions.get(name) {
                Some(now) if now == then => {}
                Some(_) => found.push(format!("function {name} is another")),
                None => found.push(format!("function {name} is gone")),
            }
        }
        found
    }
}

impl Table {
    fn obstacles(&self, name: &str, now: &Table, found: &mut Vec<String>) {
        for (column, then) in &self.columns {
            let path = format!("{name}.{column}");
            let Some(now) = now.columns.get(column) else {
                found.push(format!("{path} is gone"));
                continue;
            };
            if now.type_name != then.type_name {
                found.push(format!("{path} has another type"));
            }
            match (then.is_required, now.is_required) {
                (false, true) => found.push(format!("{path} must not be null")),
                (true, false) => found.push(format!("{path} may be null")),
                (false, false) | (true, true) => {}
            }
            if now.default != then.default {
                found.push(format!("{path} has another default"));
            }
        }
        for (column, now) in &now.columns {
            let is_new = !self.columns.contains_key(column);
            if is_new && now.is_required && now.default.is_empty() {
                found.push(format!("{name}.{column} is required of rows"));
            }
        }
        for (rule, now) in &now.rules {
            match self.rules.get(rule) {
                None => found.push(format!("{name} has a new rule {rule}")),
                Some(then) if then != now => found.push(format!("{name} has another rule {rule}")),
                Some(_) => {}
            }
        }
    }
}

#[test]
fn what_old_programs_stumble_over_is_named() {
    let column = |type_name: &str, is_required, default: &str| Column {
        type_name: type_name.to_owned(),
        is_required,
        default: default.to_owned(),
    };
    let table = |columns: Vec<(&str, Column)>, rules: &[(&str, &str)]| Table {
        columns: columns
            .into_iter()
            .map(|(name, column)| (name.to_owned(), column))
            .collect(),
        rules: rules
            .iter()
            .map(|(name, rule)| ((*name).to_owned(), (*rule).to_owned()))
            .collect(),
    };
    let then = table(
        vec![
            ("same", column("text", true, "")),
            ("dropped", column("text", false, "")),
            ("wider", column("integer", false, "")),
            ("stricter", column("text", false, "")),
            ("looser", column("text", true, "")),
            ("undefaulted", column("text", true, "''")),
        ],
        &[
            ("same_rule", "check (a)"),
            ("changed_rule", "check (a)"),
            ("dropped_rule", "check (a)"),
        ],
    );
    let now = table(
        vec![
            ("same", column("text", true, "")),
            ("wider", column("bigint", false, "")),
            ("stricter", column("text", true, "")),
            ("looser", column("text", false, "")),
            ("undefaulted", column("text", true, "")),
            ("new_nullable", column("text", false, "")),
            ("new_with_default", column("text", true, "'x'")),
            ("new_required", column("text", true, "")),
        ],
        &[
            ("same_rule", "check (a)"),
            ("changed_rule", "check (b)"),
            ("new_rule", "check (a)"),
        ],
    );
    let functions = |list: &[(&str, &str)]| {
        let owned = list
            .iter()
            .map(|(name, body)| ((*name).to_owned(), (*body).to_owned()));
        owned.collect()
    };
    let then = Catalog {
        tables: [("t".to_owned(), then), ("u".to_owned(), Table::default())].into(),
        functions: functions(&[("same()", "1"), ("changed()", "1"), ("dropped()", "1")]),
    };
    let now = Catalog {
        tables: [("t".to_owned(), now), ("new".to_owned(), Table::default())].into(),
        functions: functions(&[("same()", "1"), ("changed()", "2"), ("new()", "1")]),
    };
    let expected = [
        "t.dropped is gone",
        "t.looser may be null",
        "t.stricter must not be null",
        "t.undefaulted has another default",
        "t.wider has another type",
        "t.new_required is required of rows",
        "t has another rule changed_rule",
        "t has a new rule new_rule",
        "u is gone",
        "function changed() is another",
        "function dropped() is gone",
    ];
    assert_eq!(then.obstacles(&now), expected);
}
