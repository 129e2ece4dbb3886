//! Time and chance in tests: `--deterministic`. What a clock shows is tested beside the code (`sandbox/deterministic.rs`).

use crate::support::{FAULTS, Server, get};

/// What four requests see of the guest's random numbers, each in a fresh instance.
fn numbers(component: &str, flags: &[&str]) -> Vec<String> {
    let server = Server::start(component, &[&["--workers", "2", "--isolation", "request"], flags].concat());
    let numbers = (0..4).map(|_| get(server.address, "/random?bytes=32").text()).collect();
    let warned = server.records(|record| record.to_string().contains("random numbers can be predicted"));
    assert_eq!(warned.len(), usize::from(flags.contains(&"--deterministic")));
    numbers
}

#[test]
fn a_seed_gives_each_instance_the_same_random_numbers_and_without_one_there_are_no_two_alike() {
    for component in FAULTS {
        let five = numbers(component, &["--deterministic", "5"]);
        assert!(five[0].len() == 64 && five.iter().all(|one| *one == five[0]), "{five:?}");
        assert_eq!(numbers(component, &["--deterministic", "5"]), five, "another host");
        assert_ne!(numbers(component, &["--deterministic", "6"]), five);
        let unlike: std::collections::HashSet<_> = numbers(component, &[]).into_iter().collect();
        assert_eq!(unlike.len(), 4);
    }
}
