//! What of SQL guests may use. Pure. SQLite asks while it prepares a statement, also for what views and triggers do.

use rusqlite::hooks::AuthAction;

/// Pragmas that tell something, and take no value or the name of a table.
const TELLING_PRAGMAS: &[&str] = &[
    "application_id",
    "data_version",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "index_info",
    "index_list",
    "index_xinfo",
    "page_count",
    "page_size",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];
/// Of these, those whose value is no setting but what they are asked about.
const ASKED_ABOUT: &[&str] = &[
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];
/// Pragmas that may also be set.
const SETTING_PRAGMAS: &[&str] = &["defer_foreign_keys", "foreign_keys", "optimize", "user_version"];
/// Modules of virtual tables.
const MODULES: &[&str] = &["fts5", "fts5vocab", "rtree"];
/// Functions that load code, or reach into a module.
const FUNCTIONS: &[&str] = &["fts3_tokenizer", "load_extension"];

/// Why an action is refused; none: it is allowed.
pub(crate) fn refused(action: &AuthAction<'_>) -> Option<String> {
    match action {
        // (VACUUM attaches a file, too.)
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            Some("ATTACH, DETACH and VACUUM: a connection has one database".to_owned())
        }
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let name = pragma_name.to_ascii_lowercase();
            let has = |list: &[&str]| list.contains(&&*name);
            let is_allowed =
                has(SETTING_PRAGMAS) || has(TELLING_PRAGMAS) && (pragma_value.is_none() || has(ASKED_ABOUT));
            (!is_allowed).then(|| format!("PRAGMA {name}{}", if pragma_value.is_some() { " with a value" } else { "" }))
        }
        AuthAction::CreateVtable { module_name, .. } => {
            let is_allowed = MODULES.iter().any(|module| module.eq_ignore_ascii_case(module_name));
            (!is_allowed).then(|| format!("virtual tables of the module {module_name}"))
        }
        AuthAction::Function { function_name } => {
            let is_refused = FUNCTIONS.iter().any(|function| function.eq_ignore_ascii_case(function_name));
            is_refused.then(|| format!("the function {function_name}"))
        }
        AuthAction::Unknown { code, .. } => Some(format!("what SQLite calls action {code}")),
        _ => None,
    }
}

/// Whether an action makes something that is there for its connection alone, and goes with it.
pub(crate) fn is_of_connection(action: &AuthAction<'_>) -> bool {
    matches!(
        action,
        AuthAction::CreateTempTable { .. }
            | AuthAction::CreateTempIndex { .. }
            | AuthAction::CreateTempTrigger { .. }
            | AuthAction::CreateTempView { .. }
    ) || matches!(action, AuthAction::Pragma { pragma_name, pragma_value: Some(_) } if pragma_name.eq_ignore_ascii_case("foreign_keys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pragmas_are_those_of_a_list_and_few_take_a_value() {
        let pragma = |pragma_name, pragma_value| refused(&AuthAction::Pragma { pragma_name, pragma_value });
        for (name, value) in [
            ("table_info", Some("t")),
            ("TABLE_LIST", None),
            ("user_version", Some("3")),
            ("foreign_keys", Some("off")),
            ("page_count", None),
            ("quick_check", None),
        ] {
            assert_eq!(pragma(name, value), None, "{name}");
        }
        for (name, value) in [
            ("writable_schema", Some("on")),
            ("max_page_count", Some("1000000000")),
            ("page_size", Some("512")),
            ("journal_mode", None),
            ("journal_mode", Some("off")),
            ("synchronous", Some("off")),
            ("temp_store_directory", Some("/tmp")),
            ("hard_heap_limit", Some("0")),
            ("mmap_size", Some("1")),
            ("database_list", None),
            ("trusted_schema", Some("on")),
            ("wal_checkpoint", None),
        ] {
            assert!(pragma(name, value).is_some_and(|what| what.contains(name)), "{name}");
        }
    }

    #[test]
    fn a_connection_has_its_database_and_no_code_of_others() {
        for action in [
            AuthAction::Attach { filename: "/etc/passwd" },
            AuthAction::Detach { database_name: "main" },
            AuthAction::CreateVtable { table_name: "t", module_name: "dbstat" },
            AuthAction::Function { function_name: "LOAD_EXTENSION" },
            AuthAction::Unknown { code: 99, arg1: None, arg2: None },
        ] {
            assert!(refused(&action).is_some(), "{action:?}");
        }
        for action in [
            AuthAction::Select,
            AuthAction::CreateTable { table_name: "t" },
            AuthAction::CreateVtable { table_name: "t", module_name: "FTS5" },
            AuthAction::Function { function_name: "json_extract" },
        ] {
            assert_eq!(refused(&action), None, "{action:?}");
        }
    }
}
