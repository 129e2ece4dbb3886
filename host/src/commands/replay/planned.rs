//! PURE: a request of a crash bundle as it is to run, with what flags add.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use wasmhost_serve::worker::{ReplayedRequest, ReportedRequest};
use wasmhost_supervise::replay::ONLY;

/// A request that is to run, and which one of the bundle it is.
pub(super) struct PlannedRequest {
    pub(super) number: u64,
    pub(super) request: ReplayedRequest,
    /// What the bundle does not have of it, and no flag has added.
    pub(super) missing: Vec<String>,
}

/// What `--header` says.
pub(super) fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value.trim()).ok()?))
}

/// A request as it is to run, with what flags add.
pub(super) fn planned(
    reported: &ReportedRequest,
    target: Option<&PathAndQuery>,
    added: &HeaderMap,
    body: Option<&Bytes>,
) -> Result<PlannedRequest, String> {
    let method = Method::try_from(reported.method.as_str()).map_err(|_| "it has no valid method".to_owned())?;
    let mut missing = Vec::new();
    let recorded = reported.target.parse::<PathAndQuery>();
    let target = match (target, recorded) {
        (Some(target), _) => target.clone(),
        (None, Ok(recorded)) => {
            missing.extend(reported.is_query_hidden.then(|| "values of its query (--target)".to_owned()));
            recorded
        }
        (None, Err(_)) => return Err("its path cannot be used; name one with --target".to_owned()),
    };
    let mut headers = HeaderMap::new();
    let mut hidden = Vec::new();
    for field in &reported.headers {
        let Ok(name) = HeaderName::try_from(field.name.as_str()) else { continue };
        if added.contains_key(&name) {
            continue;
        }
        match field.value.as_ref().and_then(|value| HeaderValue::try_from(value.as_str()).ok()) {
            Some(value) => {
                headers.append(name, value);
            }
            None => hidden.push(field.name.clone()),
        }
    }
    headers.extend(added.iter().map(|(name, value)| (name.clone(), value.clone())));
    if !hidden.is_empty() {
        hidden.dedup();
        missing.push(format!("the values of {} (--header)", hidden.join(", ")));
    }
    if reported.has_body && body.is_none() {
        let size = reported.body_bytes.map(|bytes| format!(" of {bytes} bytes")).unwrap_or_default();
        missing.push(format!("its body{size} (--body)"));
    }
    let request = ReplayedRequest {
        app: ONLY,
        method,
        target,
        is_encrypted: reported.scheme == "https",
        authority: reported.authority.clone(),
        headers,
        body: body.cloned().unwrap_or_default(),
    };
    Ok(PlannedRequest { number: reported.number, request, missing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmhost_serve::worker::ReportedField;

    fn reported() -> ReportedRequest {
        let field =
            |name: &str, value: Option<&str>| ReportedField { name: name.to_owned(), value: value.map(str::to_owned) };
        ReportedRequest {
            number: 3,
            method: "POST".to_owned(),
            scheme: "https".to_owned(),
            authority: "a.test".to_owned(),
            target: "/b?c=*".to_owned(),
            is_query_hidden: true,
            headers: vec![field("x-note", Some("d")), field("authorization", None)],
            has_body: true,
            body_bytes: Some(9),
        }
    }

    #[test]
    fn what_a_bundle_lacks_is_told_until_flags_add_it() {
        let bare = planned(&reported(), None, &HeaderMap::new(), None).expect("a request");
        assert_eq!(bare.missing.len(), 3, "{:?}", bare.missing);
        assert!(bare.missing.iter().any(|missing| missing.contains("9 bytes")));
        let mut added = HeaderMap::new();
        let (name, value) = header("Authorization: Bearer e").expect("a header");
        added.append(name, value);
        let body = Bytes::from_static(b"123456789");
        let target = PathAndQuery::from_static("/b?c=1");
        let whole = planned(&reported(), Some(&target), &added, Some(&body)).expect("a request");
        assert_eq!(whole.missing, Vec::<String>::new());
        assert_eq!(whole.request.headers.get("authorization").map(HeaderValue::as_bytes), Some(&b"Bearer e"[..]));
        assert_eq!((whole.request.target.as_str(), whole.request.is_encrypted), ("/b?c=1", true));
    }

    #[test]
    fn a_path_that_cannot_be_used_is_a_mistake() {
        let request = ReportedRequest { target: "not a path".to_owned(), ..reported() };
        assert!(planned(&request, None, &HeaderMap::new(), None).is_err_and(|reason| reason.contains("--target")));
    }
}
