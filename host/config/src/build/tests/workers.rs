//! What workers are, and how many there may be.

use super::*;
use crate::RequestKey;

#[test]
fn workers_are_processes_where_an_app_has_a_group_or_several_have_fresh_instances() {
    let kind = |more: &str, flags: &[&str]| config(&format!("{EXAMPLE}{more}"), flags).worker_kind;
    let (fresh, two) = ("isolation = \"request\"\n", "--workers=2");
    assert_eq!(kind("", &[two]), WorkerKind::Thread);
    assert_eq!(kind(fresh, &[two]), WorkerKind::Process);
    assert_eq!(kind(fresh, &["--workers=1"]), WorkerKind::Thread);
    assert_eq!(kind(fresh, &[two, "--worker-kind=thread"]), WorkerKind::Thread);
    assert_eq!(kind("", &[two, "--isolation=request"]), WorkerKind::Process);
    assert_eq!(kind("group = \"g\"\n", &["--workers=1"]), WorkerKind::Process);
    assert_eq!(kind("", &[two, "--worker-kind=process"]), WorkerKind::Process);
}

#[test]
fn workers_may_become_as_many_as_there_are_cores_or_as_the_settings_say() {
    let most = |top: &str, flags: &[&str]| config(&format!("{top}{EXAMPLE}"), flags).workers_max;
    assert_eq!((most("", &[]), most("", &["--workers=1"]), most("", &["--workers=5"])), (3, 3, 5));
    assert_eq!((most("workers-max = 4\n", &[]), most("workers-max = 4\n", &["--workers-max=7"])), (4, 7));
    assert_eq!(most("balance = \"kernel\"\nworkers = 1\n", &[]), 1, "each has sockets since the start");
    let wrong = |top: &str, reason: &str| {
        let found = mistakes(&format!("{top}{EXAMPLE}"));
        assert!(found.len() == 1 && found[0].contains(reason), "{top}: {found:?}");
    };
    wrong("workers-max = 2\n", "1:15: workers-max `2`: there are more workers at the start: 3");
    wrong("balance = \"kernel\"\nworkers-max = 9\n", "the number of workers stays 3 with `--balance kernel`");
    wrong("workers-max = 513\n", "must be a whole number from 1 to 512");
    wrong("balance-by = \"cookie:sid\"\n", "1:14: balance-by: needs `balance = \"client\"`");
    wrong("balance = \"client\"\nbalance-by = \"sid\"\n", "must be `address`, `header:NAME` or `cookie:NAME`");
    let by = config(&format!("balance = \"client\"\nbalance-by = \"header:X-User\"\n{EXAMPLE}"), &[]).balance_by;
    assert_eq!(by, Some(RequestKey::Header("x-user".to_owned())));
}
