//! What the name of a host may be: RFC 1035 (section 2.3.4) for its length, RFC 1123 (section 2.1) for its characters.

/// Longest name, in bytes, without a dot at its end (RFC 1035: 255 with the lengths of its labels and of the root).
pub(super) const HOST_BYTES_MAX: usize = 253;
/// Longest part of a name between dots, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// Letters, digits, hyphens and underscores between dots (underscores are seen in container networks), without a dot at the
/// end.
///
/// # Errors
/// Says what is wrong and what is expected.
pub(super) fn check(host: &str) -> Result<(), String> {
    if let Some(other) = host.chars().find(|c| !c.is_ascii()) {
        return Err(format!("`{other}` is not ASCII; write the host in punycode, as clients send it: `xn--…`"));
    }
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(other) = host.chars().find(|c| !is_allowed(c)) {
        let other = other.escape_debug();
        return Err(format!("`{other}` cannot stand in a host; write letters, digits, `-` and `_` between dots"));
    }
    if host.len() > HOST_BYTES_MAX {
        return Err(format!("the host has {} characters; write at most {HOST_BYTES_MAX} (RFC 1035)", host.len()));
    }
    for label in host.split('.') {
        if label.is_empty() {
            return Err("nothing stands before or behind a dot; write each name between dots, as in \
                `shop.example.com`"
                .to_owned());
        }
        if label.len() > LABEL_BYTES_MAX {
            let length = label.len();
            return Err(format!(
                "`{label}` has {length} characters; write at most {LABEL_BYTES_MAX} between two dots (RFC 1035)"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_letters_digits_hyphens_and_underscores_between_dots() {
        for good in ["a", "shop.example.com", "my_service", "xn--bcher-kva.example", "10.0.0.1", &"a".repeat(63)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for wrong in ["", ".", "a.", ".a", "a..b", "a b", "a/b", "a:b", "a@b", "*", "ü", &"a".repeat(64)] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        let labels = vec!["a".repeat(63); 4].join(".");
        assert_eq!(check(&labels[2..]), Ok(()));
        assert!(check(&labels[1..]).is_err_and(|reason| reason.contains("254")));
    }
}
