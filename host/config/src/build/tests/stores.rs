//! What is said of stores of keys and values.

use super::*;

#[test]
fn what_is_said_of_stores_holds_for_the_apps_that_name_them_and_mistakes_have_their_places() -> TestResult {
    let text = "data-dir = \"d\"\n[[store]]\nname = \"links\"\nkeys-max = 5\n[defaults.limits]\nstore-keys = 9\n[[app]]\nname = \"a\"\ncomponent = \"a.wasm\"\nstores = [\"own\", \"b=links\"]\n";
    let read = read_in(folder(text).path(), &[]).map_err(|mistakes| format!("{mistakes:?}"))?;
    let stores: Vec<_> =
        read.apps[0].grants.stores.iter().map(|grant| (grant.store.as_str(), grant.limits.keys_max)).collect();
    assert_eq!(stores, [("a/own", 9), ("links", 5)]);
    for (from, to, expected) in [
        ("b=links", "b=lniks", "no `[[store]]` has the name `lniks`, is `links` meant?"),
        ("data-dir = \"d\"", "", "needs `data-dir`"),
        ("name = \"links\"\n", "", "this store has no name"),
        ("keys-max = 5", "keys-max = 0", "must be a whole number, at least 1"),
        ("keys-max = 5", "key-max = 5", "unknown key `key-max`, is `keys-max` meant?"),
        ("keys-max = 5", "value-max = \"5MiB\"", "must be 4MiB at most"),
        ("[[store]]", "[store]", "`store` must be a list of tables"),
        ("keys-max = 5", "[[store]]\nname = \"links\"", "two stores have the name `links`"),
        ("\"own\"", "\"o/n\"", "the name of a store must be 1 to 63"),
    ] {
        let mistakes = read_in(folder(&text.replacen(from, to, 1)).path(), &[]).expect_err(to);
        let found = mistakes.iter().any(|mistake| mistake.to_string().contains(expected));
        assert!(found, "{to}: {mistakes:?}");
    }
    Ok(())
}
