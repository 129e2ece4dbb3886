//! Imports in plain words: what a component wants of its host, and which setting grants it.

use wasmhost_sandbox::capabilities;

use super::report::{Want, WantedFlag};

/// What these imports are for.
pub(super) fn of(imports: &[String]) -> Vec<Want> {
    let mut wants: Vec<Want> = Vec::new();
    for declaration in capabilities().all().filter(|declaration| !declaration.what.is_empty()) {
        let of_this = imports.iter().filter(|import| declaration.names(import));
        let imports: Vec<String> = of_this.cloned().collect();
        if !imports.is_empty() {
            let flag = declaration.grant().map(|setting| setting.usage());
            wants.push(Want { what: declaration.what, flag, imports });
        }
    }
    let is_known = |import: &str| capabilities().all().any(|declaration| declaration.names(import));
    let others: Vec<String> = imports.iter().filter(|import| !is_known(import)).cloned().collect();
    if !others.is_empty() {
        wants.push(Want { what: "interfaces that wasmhost does not know", flag: None, imports: others });
    }
    wants
}

/// The settings that grant it, none of which it needs to start.
pub(super) fn flags(wants: &[Want]) -> Vec<WantedFlag> {
    let wanted = capabilities().all().filter(|known| wants.iter().any(|want| want.what == known.what));
    wanted
        .filter_map(|declaration| {
            let setting = declaration.grant()?;
            let reason = format!("for {}: {}", declaration.what, declaration.without);
            Some(WantedFlag { flag: setting.usage(), key: Some(setting.key), needed: false, reason })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_told_in_plain_words_and_those_of_every_handler_are_not() {
        let imports = [
            "wasi:http/types@0.2.6",
            "wasi:io/poll@0.2.6",
            "wasi:clocks/monotonic-clock@0.2.6",
            "wasi:random/random@0.2.6",
            "wasi:cli/environment@0.2.6",
            "wasi:http/outgoing-handler@0.2.6",
            "wasi:config/store@0.2.0-rc.1",
            "acme:secret/vault@1.0.0",
        ];
        let wants = of(&imports.map(str::to_owned));
        let words: Vec<&str> = wants.iter().map(|want| want.what).collect();
        assert_eq!(
            words,
            [
                "outgoing HTTP",
                "environment",
                "random",
                "clocks",
                "configuration",
                "interfaces that wasmhost does not know"
            ]
        );
        let flags: Vec<(String, Option<&str>)> = flags(&wants).into_iter().map(|flag| (flag.flag, flag.key)).collect();
        let expected = [
            ("--allow-host HOST[:PORT][:private]", "allow-hosts"),
            ("--env NAME=VALUE", "env"),
            ("--config-value NAME=VALUE", "config"),
        ];
        assert_eq!(flags, expected.map(|(flag, key)| (flag.to_owned(), Some(key))));
    }
}
