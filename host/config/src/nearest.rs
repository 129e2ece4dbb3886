//! PURE: which name was meant by one that does not exist.

/// Names that differ by more than this part of their length are others.
const DIFFERENT: usize = 3;

/// The one of `names` that is most like `word`, if any is.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (word, length) = (word.to_lowercase(), word.chars().count());
    let distance = |name: &str| match strsim::damerau_levenshtein(&word, &name.to_lowercase()) {
        // The beginning, or the end, of a longer name (`timeout`, `limit`).
        far if far > length.max(name.len()) / DIFFERENT => (length >= 3 && is_part(&word, name)).then_some(far),
        near => Some(near),
    };
    let near = names.into_iter().filter_map(|name| distance(name).map(|distance| (distance, name)));
    near.min().map(|(_, name)| name)
}

fn is_part(word: &str, name: &str) -> bool {
    name.starts_with(word) || name.ends_with(word)
}

/// "unknown … `word`", and what is meant if that is clear.
pub(super) fn unknown<'a>(what: &str, word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let word = shown(word);
    match nearest(&word, names) {
        Some(name) => format!("unknown {what} `{word}`, is `{name}` meant?"),
        None => format!("unknown {what} `{word}`"),
    }
}

/// A word as a message shows it: in one line, and not longer than one.
pub(super) fn shown(word: &str) -> String {
    const LONGEST: usize = 120;
    let mut characters = word.chars();
    let mut shown: String = characters.by_ref().take(LONGEST).flat_map(escaped).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

fn escaped(character: char) -> impl Iterator<Item = char> {
    let is_plain = !character.is_control();
    let escape = (!is_plain).then(|| character.escape_default());
    is_plain.then_some(character).into_iter().chain(escape.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["limits", "listen", "env", "env-file", "component", "routes", "worker-kind", "workers"];
        for (word, name) in [
            ("limit", Some("limits")),
            ("listne", Some("listen")),
            ("Route", Some("routes")),
            ("wrokers", Some("workers")),
            ("envfile", Some("env-file")),
            ("kind", Some("worker-kind")),
            ("worker_kind", Some("worker-kind")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), name, "{word}");
        }
        assert_eq!(unknown("key", "limit", names), "unknown key `limit`, is `limits` meant?");
        assert_eq!(unknown("key", "a\nb", names), "unknown key `a\\nb`");
    }
}
