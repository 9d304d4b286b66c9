//! Every statement of a server, with the types of what goes in and comes out.

use std::fs;

use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, Column, Either, Executor, PgConnection, SqlSafeStr, Statement, TypeInfo,
};
use taskyard_tests::binaries;

/// What a server says to the database.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prepared {
    pub sql: String,
    /// Names of types.
    pub parameters: Vec<String>,
    /// Names with names of types.
    pub columns: Vec<(String, String)>,
}

/// The statements that were checked when this version was compiled.
pub fn compiled() -> Vec<String> {
    let folder = binaries::repository().join(".sqlx");
    let mut statements: Vec<String> = fs::read_dir(folder)
        .expect("the checked statements")
        .map(|entry| {
            let content = fs::read(entry.expect("an entry").path()).expect("a statement");
            let statement: Value = serde_json::from_slice(&content).expect("JSON");
            statement["query"].as_str().expect("a query").to_owned()
        })
        .collect();
    statements.sort();
    statements
}

/// The statement as this database understands it.
pub async fn prepare(connection: &mut PgConnection, sql: &str) -> Result<Prepared, sqlx::Error> {
    let statement = connection
        .prepare(AssertSqlSafe(sql.to_owned()).into_sql_str())
        .await?;
    let parameters = match statement.parameters() {
        Some(Either::Left(types)) => types.iter().map(|one| one.name().to_owned()).collect(),
        Some(Either::Right(_)) | None => Vec::new(),
    };
    let column = |column: &sqlx::postgres::PgColumn| {
        (
            column.name().to_owned(),
            column.type_info().name().to_owned(),
        )
    };
    Ok(Prepared {
        sql: sql.to_owned(),
        parameters,
        columns: statement.columns().iter().map(column).collect(),
    })
}

/// Lets the database plan the statement, which needs more than types: `on conflict` needs its unique index.
pub async fn plan(connection: &mut PgConnection, prepared: &Prepared) -> Result<(), sqlx::Error> {
    let first = prepared.sql.split_whitespace().next().unwrap_or_default();
    if !["select", "insert", "update", "delete", "with"].contains(&first) {
        return Ok(());
    }
    let mut execute = "explain execute planned".to_owned();
    if !prepared.parameters.is_empty() {
        let nulls = vec!["null"; prepared.parameters.len()];
        execute += &format!("({})", nulls.join(", "));
    }
    let planned = format!(
        "set plan_cache_mode = force_generic_plan; prepare planned as {}\n; {execute}; deallocate planned",
        prepared.sql
    );
    let planned = sqlx::raw_sql(AssertSqlSafe(planned))
        .execute(&mut *connection)
        .await;
    if planned.is_err() {
        // it may have been prepared, and nothing takes that back
        let _ = sqlx::raw_sql("deallocate planned")
            .execute(connection)
            .await;
    }
    planned.map(|_| ())
}

/// One statement as it is recorded: its lines apart, so that changes can be read.
pub fn to_json(prepared: &Prepared) -> Value {
    let columns = prepared.columns.iter();
    json!({
        "sql": prepared.sql.split('\n').collect::<Vec<_>>(),
        "parameters": prepared.parameters,
        "columns": columns.map(|(name, kind)| format!("{name} {kind}")).collect::<Vec<_>>(),
    })
}

/// Reads what [`to_json`] wrote.
pub fn from_json(value: &Value) -> Prepared {
    let texts = |name: &str| -> Vec<String> {
        let list = value[name].as_array().expect("a list").iter();
        list.map(|text| text.as_str().expect("a text").to_owned())
            .collect()
    };
    let column = |text: String| {
        let (name, kind) = text.rsplit_once(' ').expect("a name and a type");
        (name.to_owned(), kind.to_owned())
    };
    Prepared {
        sql: texts("sql").join("\n"),
        parameters: texts("parameters"),
        columns: texts("columns").into_iter().map(column).collect(),
    }
}
