//! What an authority is told that asks for proof that a host is the operator's (RFC 8555, section 8.3). Whoever asks is told
//! the same: it only proves that who ordered a certificate, and nobody else, is known to this host. Pure.

use http::Method;

use wasmhost_config::acme::AcmeProof;

/// Where authorities ask (RFC 8555, section 8.3).
const PREFIX: &str = "/.well-known/acme-challenge/";
/// Longest token: those of Let's Encrypt have 43 characters.
const TOKEN_BYTES_MAX: usize = 128;

/// What a request for this path of this host is answered with; none: it is no question for proof.
pub(super) fn answer(proof: &AcmeProof, method: &Method, host: &str, path: &str) -> Option<String> {
    let token = path.strip_prefix(PREFIX)?;
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_token = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && token.bytes().all(is_base64url);
    let is_ours = proof.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
    let is_asked = (*method == Method::GET || *method == Method::HEAD) && is_token && is_ours;
    is_asked.then(|| format!("{token}.{}", proof.thumbprint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_questions_for_a_token_of_a_host_that_has_a_certificate_by_acme_are_answered() {
        let proof = AcmeProof { hosts: vec!["a.test".to_owned()], thumbprint: "thumb".to_owned() };
        let asked = |method: &Method, host: &str, path: &str| answer(&proof, method, host, path);
        let at = |token: &str| format!("{PREFIX}{token}");
        assert_eq!(asked(&Method::GET, "a.test", &at("a-_9Z")).as_deref(), Some("a-_9Z.thumb"));
        assert_eq!(asked(&Method::GET, "A.TEST", &at(&"a".repeat(128))).map(|text| text.len()), Some(134));
        for (method, host, path) in [
            (Method::POST, "a.test", at("token")),
            (Method::GET, "b.test", at("token")),
            (Method::GET, "www.a.test", at("token")),
            (Method::GET, "a.test", at("")),
            (Method::GET, "a.test", at(&"a".repeat(129))),
            (Method::GET, "a.test", at("to/ken")),
            (Method::GET, "a.test", at("to.ken")),
            (Method::GET, "a.test", at("to%6ben")),
            (Method::GET, "a.test", "/.well-known/acme-challenge".to_owned()),
            (Method::GET, "a.test", "/token".to_owned()),
        ] {
            assert_eq!(asked(&method, host, &path), None, "{method} {host} {path}");
        }
    }
}
