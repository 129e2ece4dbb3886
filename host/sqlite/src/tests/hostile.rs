//! Statements that want what guests may not have, or more of it.

use std::time::Instant;

use super::*;
use crate::bounds::{PARAMETERS_BYTES_MAX, PARAMETERS_MAX, RESULT_ROWS_MAX, SQL_BYTES_MAX, VALUE_BYTES_MAX};

const GIB: u64 = 1 << 30;

/// Counts for ever.
const ENDLESS: &str = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c";

#[test]
fn other_files_code_and_settings_of_the_connection_are_refused() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let connection = host.asker().await.connect("app/a");
        done(execute(&connection, "CREATE TABLE t (v)").await);
        let others = host.folder.path().join("other.db");
        let path = others.display();
        for sql in [
            format!("ATTACH '{path}' AS other"),
            "ATTACH ':memory:' AS other".to_owned(),
            "DETACH main".to_owned(),
            format!("VACUUM INTO '{path}'"),
            "VACUUM".to_owned(),
            "SELECT load_extension('/lib/x86_64-linux-gnu/libc.so.6')".to_owned(),
            "SELECT fts3_tokenizer('simple')".to_owned(),
            "PRAGMA writable_schema = ON".to_owned(),
            "PRAGMA trusted_schema = ON".to_owned(),
            "PRAGMA journal_mode = OFF".to_owned(),
            "PRAGMA synchronous = OFF".to_owned(),
            "PRAGMA locking_mode = EXCLUSIVE".to_owned(),
            "PRAGMA max_page_count = 1000000000".to_owned(),
            "PRAGMA page_size = 65536".to_owned(),
            "PRAGMA cache_size = 1000000".to_owned(),
            "PRAGMA hard_heap_limit = 0".to_owned(),
            "PRAGMA temp_store_directory = '/tmp'".to_owned(),
            "PRAGMA database_list".to_owned(),
            "PRAGMA mmap_size = 1000000000".to_owned(),
            "PRAGMA busy_timeout = 1000000".to_owned(),
            "PRAGMA case_sensitive_like = ON".to_owned(),
            "SELECT * FROM pragma_database_list".to_owned(),
            "CREATE VIRTUAL TABLE x USING dbstat".to_owned(),
            "CREATE VIRTUAL TABLE x USING fts3(v)".to_owned(),
            "CREATE VIRTUAL TABLE x USING nowhere".to_owned(),
            "CREATE VIEW x AS SELECT load_extension('x'); ".to_owned() + "SELECT * FROM x",
        ] {
            let outcome = execute(&connection, &sql).await;
            assert!(outcome.is_err(), "{sql}: {outcome:?}");
        }
        assert!(!others.exists());
        let refused = execute(&connection, "ATTACH 'x' AS x").await.unwrap_err().to_string();
        assert!(refused.starts_with("not allowed: ATTACH"), "{refused}");
        // The schema cannot be written, not even with what was allowed.
        for sql in [
            "UPDATE sqlite_schema SET sql = 'x'",
            "INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 0, '')",
            "DELETE FROM sqlite_schema",
            "DROP TABLE sqlite_schema",
        ] {
            assert!(execute(&connection, sql).await.is_err(), "{sql}");
        }
        // Nor what a module keeps for itself.
        done(execute(&connection, "CREATE VIRTUAL TABLE notes USING fts5(v)").await);
        for sql in ["INSERT INTO notes_data VALUES (1, 'x')", "UPDATE notes_data SET block = zeroblob(9)"] {
            assert!(execute(&connection, sql).await.is_err(), "{sql}");
        }
        assert_eq!(number(execute(&connection, "SELECT count(*) FROM t").await), 0, "it goes on");
        let files: Vec<_> = std::fs::read_dir(host.folder.path())?.flatten().map(|entry| entry.file_name()).collect();
        assert!(files.iter().all(|name| name.to_string_lossy().starts_with("app@a.db")), "{files:?}");
        Ok(())
    })
}

#[test]
fn a_file_that_a_hostile_link_leads_elsewhere_is_not_opened() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let elsewhere = tempfile::NamedTempFile::new()?;
        std::os::unix::fs::symlink(elsewhere.path(), host.file("app/a"))?;
        let connection = host.asker().await.connect("app/a");
        let outcome = execute(&connection, "CREATE TABLE t (v)").await;
        assert!(matches!(outcome, Err(DatabaseError::Io { .. })), "{outcome:?}");
        assert_eq!(std::fs::metadata(elsewhere.path())?.len(), 0);
        Ok(())
    })
}

#[test]
fn statements_without_end_end_when_their_time_is_used() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let databases = host.asker().await;
        let connection = databases.connect("app/a");
        done(execute(&connection, "CREATE TABLE t (v)").await);
        let cpu = Duration::from_millis(100);
        for sql in [
            ENDLESS,
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) INSERT INTO t SELECT n FROM c",
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000) SELECT count(*) FROM c a, c b",
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c ORDER BY random()",
            "SELECT count(*) FROM (WITH RECURSIVE c(n) AS (SELECT randomblob(1000) UNION SELECT randomblob(1000) FROM c) SELECT n FROM c)",
        ] {
            let began = Instant::now();
            let answer = connection.execute(sql.to_owned(), Vec::new(), cpu).await;
            assert_eq!(answer.outcome, Err(DatabaseError::Time { cpu }), "{sql}");
            assert!(answer.cpu >= cpu && answer.cpu < 10 * cpu, "{sql}: {:?}", answer.cpu);
            assert!(began.elapsed() < Duration::from_secs(30), "{sql}");
            assert_eq!(number(execute(&connection, "SELECT count(*) FROM t").await), 0, "{sql}: nothing was changed");
        }
        // One that nobody waits for is ended, too: its database is there for others.
        let endless = connection.execute(ENDLESS.to_owned(), Vec::new(), Duration::from_secs(600));
        assert!(tokio::time::timeout(Duration::from_millis(200), endless).await.is_err());
        let began = Instant::now();
        done(execute(&databases.connect("app/a"), "INSERT INTO t VALUES (1)").await);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        Ok(())
    })
}

#[test]
fn other_databases_go_on_while_one_computes() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let databases = host.asker().await;
        let (busy, other) = (databases.connect("app/a"), databases.connect("app/b"));
        let endless = busy.execute(ENDLESS.to_owned(), Vec::new(), Duration::from_secs(2));
        let others = async {
            let began = Instant::now();
            done(execute(&other, "CREATE TABLE t (v)").await);
            began.elapsed()
        };
        let (endless, took) = tokio::join!(endless, others);
        assert!(
            matches!(endless.outcome, Err(DatabaseError::Time { .. })) && took < Duration::from_secs(1),
            "{took:?}"
        );
        Ok(())
    })
}

#[test]
fn what_is_too_large_is_refused() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let connection = host.asker().await.connect("app/a");
        done(execute(&connection, "CREATE TABLE t (v)").await);
        let too_large = VALUE_BYTES_MAX + 1;
        for sql in [
            format!("SELECT zeroblob({too_large})"),
            "SELECT zeroblob(2147483647)".to_owned(),
            format!("INSERT INTO t VALUES (zeroblob({too_large}))"),
            "SELECT randomblob(1000000000)".to_owned(),
            "SELECT replace(hex(zeroblob(500000)), '0', 'xxxxxxxxxx')".to_owned(),
            "SELECT group_concat(hex(zeroblob(100000)), '') FROM (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10),(11))".to_owned(),
            "SELECT printf('%.*c', 100000000, 'x')".to_owned(),
        ] {
            let outcome = execute(&connection, &sql).await.map(|rows| rows.rows.len());
            assert_eq!(outcome, Err(DatabaseError::ValueTooLarge), "{sql}");
        }
        let rows = |count: usize| {
            format!("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT {count}) SELECT n FROM c")
        };
        assert_eq!(done(execute(&connection, &rows(RESULT_ROWS_MAX)).await).rows.len(), RESULT_ROWS_MAX);
        assert_eq!(execute(&connection, &rows(RESULT_ROWS_MAX + 1)).await, Err(DatabaseError::ResultTooLarge));
        let large =
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 6) SELECT zeroblob(1000000) FROM c";
        assert_eq!(execute(&connection, large).await, Err(DatabaseError::ResultTooLarge));
        // What changes rows and gives back too much has changed none.
        let returning = format!(
            "INSERT INTO t {} RETURNING v",
            rows(RESULT_ROWS_MAX + 1).replace("SELECT n FROM c", "SELECT n AS v FROM c")
        );
        let returning =
            returning.replace("INSERT INTO t WITH", "WITH").replacen(" SELECT n AS v", " INSERT INTO t SELECT n", 1);
        assert_eq!(execute(&connection, &returning).await, Err(DatabaseError::ResultTooLarge), "{returning}");
        assert_eq!(number(execute(&connection, "SELECT count(*) FROM t").await), 0);
        // The statement itself, and its parameters.
        let long = format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX));
        assert_eq!(execute(&connection, &long).await, Err(DatabaseError::SqlTooLong { bytes: long.len() }));
        let many = vec![DatabaseValue::Null; PARAMETERS_MAX + 1];
        let parameters = PARAMETERS_MAX + 1;
        assert_eq!(
            answer(&connection, "SELECT 1", &many).await.outcome,
            Err(DatabaseError::TooManyParameters { parameters })
        );
        let value = DatabaseValue::Blob(vec![0; 1_000_000]);
        let four =
            answer(&connection, "SELECT length(?) + length(?) + length(?) + length(?)", &vec![value.clone(); 4]).await;
        assert_eq!(number(four.outcome), 4_000_000);
        let five = answer(&connection, "SELECT 1", &vec![value; 5]).await.outcome;
        assert!(
            matches!(five, Err(DatabaseError::ParametersTooLarge { bytes }) if bytes > PARAMETERS_BYTES_MAX),
            "{five:?}"
        );
        let larger = DatabaseValue::Blob(vec![0; too_large]);
        assert_eq!(answer(&connection, "SELECT ?", &[larger]).await.outcome, Err(DatabaseError::ValueTooLarge));
        Ok(())
    })
}

#[test]
fn what_is_too_deep_is_refused_and_the_process_goes_on() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let connection = host.asker().await.connect("app/a");
        done(execute(&connection, "CREATE TABLE t (v)").await);
        let nested = |open: &str, middle: &str, close: &str, depth: usize| {
            format!("SELECT {}{middle}{}", open.repeat(depth), close.repeat(depth))
        };
        let columns: Vec<String> = (0..2_001).map(|column| format!("c{column}")).collect();
        for sql in [
            nested("(", "1", ")", 10_000),
            nested("abs(", "1", ")", 1_000),
            nested("- ", "1", "", 10_000),
            nested("(SELECT ", "1", ")", 1_000),
            nested("NOT ", "1", "", 5_000),
            format!("SELECT 1{}", " + 1".repeat(5_000)),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(1_000)),
            format!("SELECT * FROM t{}", ", t".repeat(500)),
            format!("CREATE TABLE wide ({})", columns.join(", ")),
            format!("SELECT max({})", vec!["1"; 500].join(", ")),
            format!("SELECT 'x' LIKE '{}'", "%a".repeat(1_000)),
            format!("SELECT json_extract('{}{}', '$')", "[".repeat(40_000), "]".repeat(40_000)),
        ] {
            let outcome = execute(&connection, &sql).await.map(|_| ());
            assert!(matches!(outcome, Err(DatabaseError::Statement { .. })), "{}…: {outcome:?}", &sql[..40]);
        }
        // A trigger that fires itself.
        done(execute(&connection, "PRAGMA user_version = 1").await);
        let recursive = execute(&connection, "PRAGMA recursive_triggers = ON").await;
        assert!(matches!(recursive, Err(DatabaseError::Refused { .. })), "{recursive:?}");
        assert_eq!(number(execute(&connection, "SELECT count(*) FROM t").await), 0);
        Ok(())
    })
}

#[test]
fn memory_has_a_bound() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let connection = host.asker().await.connect("app/a");
        done(execute(&connection, "CREATE TEMP TABLE t (v)").await);
        // 100 MB at a time, in memory.
        let fill = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 200) INSERT INTO t SELECT randomblob(500000) FROM c";
        let mut error = None;
        for _ in 0..6 {
            error = execute(&connection, fill).await.err();
            if error.is_some() {
                break;
            }
        }
        assert!(matches!(error, Some(DatabaseError::Memory | DatabaseError::Full { .. })), "{error:?}");
        done(execute(&host.asker().await.connect("app/b"), "CREATE TABLE t (v)").await);
        Ok(())
    })
}

#[test]
fn names_of_columns_count_and_no_row_is_read_beyond_the_bound() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let connection = host.asker().await.connect("app/a");
        done(execute(&connection, &format!("CREATE TABLE wide ({} INT)", "n".repeat(90_000))).await);
        let wide = format!("SELECT {} FROM wide", ["wide.*"; 120].join(", "));
        assert_eq!(execute(&connection, &wide).await, Err(DatabaseError::ResultTooLarge));
        let many = format!("SELECT {}", ["?1"; 400].join(", "));
        for value in [text(&"x".repeat(1_048_000)), DatabaseValue::Blob(vec![0; 1_048_000])] {
            assert_eq!(answer(&connection, &many, &[value]).await.outcome, Err(DatabaseError::ResultTooLarge));
        }
        assert_eq!(number(execute(&connection, "SELECT count(*) FROM wide").await), 0, "all goes on");
        Ok(())
    })
}

#[test]
fn names_are_those_of_the_rows_when_another_connection_changes_a_table() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let databases = host.asker().await;
        let (one, other) = (databases.connect("app/a"), databases.connect("app/a"));
        done(execute(&one, "CREATE TABLE t (owner, secret)").await);
        done(execute(&one, "INSERT INTO t VALUES ('me', 'hush')").await);
        let all = "SELECT * FROM t";
        assert_eq!(done(execute(&other, all).await).columns, ["owner", "secret"]);
        done(execute(&one, "DROP TABLE t").await);
        done(execute(&one, "CREATE TABLE t (secret, owner)").await);
        assert_eq!(done(execute(&other, all).await).columns, ["secret", "owner"], "without rows");
        done(execute(&one, "ALTER TABLE t ADD COLUMN more").await);
        done(execute(&one, "INSERT INTO t VALUES ('hush', 'me', 1)").await);
        let rows = done(execute(&other, all).await);
        assert_eq!(rows.columns, ["secret", "owner", "more"]);
        assert_eq!(rows.rows, [[text("hush"), text("me"), DatabaseValue::Integer(1)]]);
        Ok(())
    })
}

#[test]
fn what_gives_back_too_much_changes_nothing_and_its_transaction_goes_on() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let connection = host.asker().await.connect("app/a");
        done(execute(&connection, "CREATE TABLE t (v)").await);
        done(execute(&connection, "BEGIN").await);
        done(execute(&connection, "INSERT INTO t VALUES (1)").await);
        let many = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 60000) INSERT INTO t SELECT n FROM c RETURNING v";
        assert_eq!(execute(&connection, many).await, Err(DatabaseError::ResultTooLarge));
        done(execute(&connection, "COMMIT").await);
        assert_eq!(number(execute(&connection, "SELECT count(*) FROM t").await), 1);
        Ok(())
    })
}

#[test]
fn attempts_behind_another_transaction_are_paid_for() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let databases = host.asker().await;
        let (one, other) = (databases.connect("app/a"), databases.connect("app/a"));
        done(execute(&one, "CREATE TABLE t (v)").await);
        done(execute(&one, "BEGIN IMMEDIATE").await);
        // Preparing it takes a while, each time.
        let long = format!("INSERT INTO t VALUES {}", vec!["(1)"; 20_000].join(", "));
        let cpu = Duration::from_millis(200);
        let waited = other.execute(long, Vec::new(), cpu).await;
        assert!(waited.outcome.is_err() && waited.cpu >= cpu, "{waited:?}");
        Ok(())
    })
}

#[test]
fn a_damaged_file_is_an_error_with_its_name() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        std::fs::write(host.file("app/a"), vec![b'x'; 8_192])?;
        let connection = host.asker().await.connect("app/a");
        let outcome = execute(&connection, "SELECT 1").await;
        let file = host.file("app/a").canonicalize()?.display().to_string();
        assert!(matches!(&outcome, Err(DatabaseError::Damaged { file: named, .. }) if *named == file), "{outcome:?}");
        assert_eq!(std::fs::read(host.file("app/a"))?, vec![b'x'; 8_192], "it is left as it was");
        Ok(())
    })
}
