//! One order of a certificate: from the account to the chain (RFC 8555, section 7).

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, Key, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use wasmhost_config::AcmeSettings;
use wasmhost_config::tls::private_key;

use crate::client::AuthorityClient;

/// How long an order may take in all.
const ORDER_WITHIN: Duration = Duration::from_mins(5);
/// How long the authority may take for its look at the host, and as long again for the certificate.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_mins(2));

/// Orders a certificate with a new key. Both in PEM, the key first. `account`: the account's key in PEM.
///
/// # Errors
/// What went wrong, with the words of the authority.
pub(crate) async fn order(settings: &AcmeSettings, account: &str, client: AuthorityClient) -> Result<String, String> {
    let ordered = tokio::time::timeout(ORDER_WITHIN, try_order(settings, account, client)).await;
    ordered.map_err(|_| format!("the order was not done within {ORDER_WITHIN:?}"))?
}

async fn try_order(settings: &AcmeSettings, account: &str, client: AuthorityClient) -> Result<String, String> {
    let account = open_account(settings, account, client).await?;
    let names: Vec<Identifier> = settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await.map_err(|error| told(&error))?;
    ask_for_validation(&mut order).await?;
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => {}
        ended => {
            // What the authority has seen at the host says more than that the order is void.
            let reason = why_not_valid(&mut order).await;
            let ended = ended.map_or_else(|error| told(&error), |status| format!("the order is {status:?}"));
            return Err(reason.unwrap_or(ended));
        }
    }
    let made = |error: rcgen::Error| format!("a request for a certificate cannot be made: {error}");
    let mut params = CertificateParams::new(settings.domains.clone()).map_err(made)?;
    // The names are in their own field.
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate().map_err(made)?;
    let request = params.serialize_request(&key).map_err(made)?;
    order.finalize_csr(request.der()).await.map_err(|error| told(&error))?;
    let chain = order.poll_certificate(&PATIENCE).await.map_err(|error| told(&error))?;
    Ok(key.serialize_pem() + &chain)
}

/// The account that belongs to this key: an authority that does not know it makes one.
async fn open_account(settings: &AcmeSettings, pem: &str, client: AuthorityClient) -> Result<Account, String> {
    let wrong = || "the account's key is none of ECDSA on P-256".to_owned();
    let PrivateKeyDer::Pkcs8(bytes) = private_key(pem)? else { return Err(wrong()) };
    let key = Key::from_pkcs8_der(bytes.clone_key()).map_err(|_| wrong())?;
    let builder = Account::builder_with_http(Box::new(client));
    let key = (key, PrivateKeyDer::Pkcs8(bytes));
    let (account, _) = builder.create_from_key(key, settings.directory.clone()).await.map_err(|error| told(&error))?;
    if let Some(contact) = &settings.contact {
        account.update_contacts(&[contact.as_str()]).await.map_err(|error| told(&error))?;
    }
    Ok(account)
}

/// Has the authority look at the host for each name that it has not seen lately.
async fn ask_for_validation(order: &mut Order) -> Result<(), String> {
    let mut all = order.authorizations();
    while let Some(found) = all.next().await {
        let mut found = found.map_err(|error| told(&error))?;
        let name = found.identifier().to_string();
        match found.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => return Err(format!("the authority does not look at `{name}`: its authorization is {other:?}")),
        }
        let Some(mut challenge) = found.challenge(ChallengeType::Http01) else {
            return Err(format!(
                "the authority does not ask `{name}` for proof over HTTP (http-01), and the host knows no other way"
            ));
        };
        challenge.set_ready().await.map_err(|error| format!("`{name}`: {}", told(&error)))?;
    }
    Ok(())
}

/// What the authority says of a name that it has found wrong.
async fn why_not_valid(order: &mut Order) -> Option<String> {
    let mut all = order.authorizations();
    while let Some(Ok(mut found)) = all.next().await {
        let name = found.identifier().to_string();
        let Ok(state) = found.refresh().await else { continue };
        if let Some(error) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(format!("`{name}`: {error}"));
        }
    }
    None
}

/// An error with all that caused it.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
