//! A row of any content, for the fuzz targets: what [`super::row`] makes of what a database holds
//! that has lost its checks.

use serde_json::{Map, Value};

use super::row::{self, Columns};
use crate::store::LoginRecord;

/// Columns by name; a value of another type is an error, as with the databases' drivers.
struct Row(Map<String, Value>);

impl Row {
    fn value<'r, T>(
        &'r self,
        column: &str,
        read: impl Fn(&'r Value) -> Option<T>,
    ) -> Result<Option<T>, sqlx::Error> {
        let missing = || sqlx::Error::ColumnNotFound(column.to_owned());
        match self.0.get(column).ok_or_else(missing)? {
            Value::Null => Ok(None),
            value => read(value).map(Some).ok_or_else(missing),
        }
    }
}

impl Columns for Row {
    fn text(&self, column: &str) -> Result<Option<&str>, sqlx::Error> {
        self.value(column, Value::as_str)
    }

    fn integer(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.value(column, Value::as_i64)
    }

    fn truth(&self, column: &str) -> Result<Option<bool>, sqlx::Error> {
        self.value(column, Value::as_bool)
    }

    fn real(&self, column: &str) -> Result<Option<f64>, sqlx::Error> {
        self.value(column, Value::as_f64)
    }
}

/// Reads a JSON object as a row of every table, and gives the user that it is, if it is one.
pub(crate) fn read_row(json: &[u8]) -> Option<LoginRecord> {
    let row = Row(serde_json::from_slice(json).ok()?);
    let _ = row::event(&row);
    let _ = row::hash_listing(&row);
    let _ = row::count(&row);
    let _ = row::holder(&row);
    let _ = row::token(&row);
    let _ = row::token_listing(&row);
    let _ = row::account(&row);
    let _ = row::instance(&row);
    let _ = row::version(&row);
    let _ = row::news(std::slice::from_ref(&row));
    row::login(&row).ok()
}
