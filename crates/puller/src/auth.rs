//! `WWW-Authenticate`, Basic and Bearer: what a registry demands, where a token may be fetched, and how.
//!
//! The scope asked for is our own (`repository:NAME:pull`), not the registry's: it needs no more.

use std::time::{Duration, Instant};

use base64::Engine;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use crate::Error;
use crate::credentials::Credentials;
use crate::error::one_line;
use crate::http::{Ask, Failure, Http, host_of, is_loopback};

/// Longest header value that is looked at.
const HEADER_MAX: usize = 16 << 10;
/// Largest answer of a token server, as containers/image has it.
const TOKEN_BODY_MAX: u64 = 1 << 20;
/// Life of a token whose server does not say (distribution's token specification).
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: String, error: String },
}

/// A token and when it ends. No `Debug`.
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) ends: Instant,
}

/// The challenges of an answer, in order; those of unknown schemes are left out.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().take(8);
    values.filter_map(|v| v.to_str().ok()).filter(|v| v.len() <= HEADER_MAX).flat_map(parse).collect()
}

/// Reads `scheme key="value", key=value, scheme …` (RFC 9110 11.6.1), forgiving what breaks no meaning.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let word = rest[..end].to_ascii_lowercase();
        let after = rest[end..].trim_start_matches([' ', '\t']);
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, params))) => {
                let Some((value, tail)) = parameter(value.trim_start()) else { return Vec::new() };
                params.push((word, value));
                rest = tail;
            }
            // A parameter without a scheme, or no word at all: not a challenge.
            (Some(_), None) => return Vec::new(),
            (None, _) if word.is_empty() => return Vec::new(),
            (None, _) => {
                found.push((word, Vec::new()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    let challenge = |(scheme, params): (String, Vec<(String, String)>)| {
        let get = |key: &str| {
            let mut values = params.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone());
            (values.next().unwrap_or_default(), values.next().is_some())
        };
        match scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => match (get("realm"), get("service"), get("error")) {
                ((realm, false), (service, false), (error, _)) => {
                    Some(Challenge::Bearer { realm, service, error })
                }
                _ => None,
            },
            _ => None,
        }
    };
    found.into_iter().filter_map(challenge).collect()
}

/// A token or a quoted string, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// The header of Basic authentication.
pub(crate) fn basic(user: &str, password: &str) -> HeaderValue {
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {text}")).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}

/// Whether a token may be fetched at `realm` for a registry at `registry`; fails with the reason.
///
/// The realm comes from the registry and gets the user's password: so https only, except that a plain-http
/// registry may keep its own token server beside it, and no address of this host or a private network unless
/// the registry has the same one (CVE-2026-48978).
pub(crate) fn check_realm(realm: &str, registry: &Url, insecure: bool) -> Result<Url, String> {
    let shown = one_line(realm, 200);
    let refuse = |why: &str| Err(format!("the registry wants a token from {shown:?}, {why}"));
    let Ok(mut url) = Url::parse(realm) else { return refuse("which is no URL") };
    url.set_fragment(None);
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("a URL with a user name in it");
    }
    let Some(host) = url.host() else { return refuse("a URL without a host") };
    let same_host = url.host() == registry.host();
    match url.scheme() {
        "https" => {}
        "http" if registry.scheme() == "http" && same_host && (insecure || url.port() == registry.port()) => {
        }
        "http" => return refuse("which is plain http and not the registry itself"),
        _ => return refuse("which is neither https nor http"),
    }
    let inward = match host {
        url::Host::Ipv4(ip) => {
            ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
        }
        url::Host::Ipv6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some()
        }
        url::Host::Domain(name) => is_loopback(name),
    };
    if inward && !same_host {
        return refuse("an address of this host or a private network that is not the registry's own");
    }
    Ok(url)
}

/// Fetches a token. `Err(Ok(failure))` may pass; `Err(Err(error))` will not.
pub(crate) async fn fetch_token(
    http: &Http<'_>,
    realm: &Url,
    service: &str,
    repository: &str,
    credentials: Option<&Credentials>,
    insecure: bool,
) -> Result<Token, TokenFailure> {
    let scope = format!("repository:{repository}:pull");
    let host = host_of(realm);
    let mut url = realm.clone();
    let mut ask = Ask { insecure: insecure && realm.scheme() == "http", ..Ask::default() };
    let header;
    match credentials {
        Some(Credentials::Identity(secret)) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", "rcr");
            form.append_pair("service", service).append_pair("scope", &scope);
            ask.form = Some(form.append_pair("refresh_token", secret).finish());
        }
        _ => {
            let mut query = url.query_pairs_mut();
            if !service.is_empty() {
                query.append_pair("service", service);
            }
            query.append_pair("scope", &scope);
            if let Some(Credentials::Basic { user, password }) = credentials {
                query.append_pair("account", user);
                header = basic(user, password);
                ask.authorization = Some(&header);
            }
        }
    }
    let what = "a token";
    let answer = http.send(&url, &ask).await.map_err(|f| match f.passes() {
        true => TokenFailure::Passing(f),
        false => TokenFailure::Final(f.about(&host, what)),
    })?;
    let status = answer.status.as_u16();
    match status {
        200 => {}
        408 | 429 | 500.. => {
            let detail = answer.complaint().await;
            return Err(TokenFailure::Passing(Failure::Broken(format!(
                "token server {host}: HTTP {status}: {detail}"
            ))));
        }
        400 | 401 | 403 => {
            let detail = answer.complaint().await;
            return Err(TokenFailure::Refused(detail));
        }
        _ => {
            let detail = answer.complaint().await;
            return Err(TokenFailure::Final(Error::Status {
                what: what.into(),
                location: host,
                status,
                detail,
            }));
        }
    }
    let protocol = |reason: &str| {
        TokenFailure::Final(Error::Protocol {
            what: what.into(),
            location: host.clone(),
            reason: reason.into(),
        })
    };
    let body = match answer.body(TOKEN_BODY_MAX).await {
        Ok(Some(body)) => body,
        Ok(None) => return Err(protocol("the answer is larger than 1 MiB")),
        Err(failure) => return Err(TokenFailure::Passing(failure)),
    };
    read_token(&body).map_err(protocol)
}

/// Why there is no token.
pub(crate) enum TokenFailure {
    /// May pass.
    Passing(Failure),
    /// The server does not take the credentials, or wants some; what it said.
    Refused(String),
    /// Will not pass.
    Final(Error),
}

fn read_token(body: &[u8]) -> Result<Token, &'static str> {
    #[derive(Deserialize)]
    struct Body {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<f64>,
    }
    // The parser's message could quote the token.
    let body: Body = serde_json::from_slice(body).map_err(|_| "the answer is not the JSON of a token")?;
    let filled = |t: Option<String>| t.filter(|t| !t.is_empty());
    let token = filled(body.token).or(filled(body.access_token)).ok_or("the answer has no token")?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "the token has characters that no header may have")?;
    header.set_sensitive(true);
    let life = body
        .expires_in
        .filter(|s| *s >= 1.0)
        .map_or(TOKEN_LIFE, |s| Duration::from_secs_f64(s.min(86_400.0)));
    // Used up a little early, so that it does not end on its way.
    Ok(Token { header, ends: Instant::now() + life.mul_f64(0.9) })
}

#[cfg(test)]
mod tests;
