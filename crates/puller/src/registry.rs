//! One repository in one registry, as the distribution-spec has it: scheme, authentication, retries, manifests
//! and blobs. Shared by all threads of a pull; each brings its own [`Http`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oci::Digest;
use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

use crate::Error;
use crate::auth::{self, Challenge, Token, TokenFailure};
use crate::credentials::{self, Credentials};
use crate::document::{self, DOCUMENT_MAX};
use crate::error::one_line;
use crate::http::{Answer, Ask, Failure, Http, is_loopback};
use crate::pull::Pull;
use crate::registries::Place;
use crate::tries::{Tries, retry_after};

/// How often one request answers a 401 before it gives up.
const AUTH_ROUNDS: usize = 2;
/// Longest time for a manifest or a config, body included, in units of [`crate::Limits::header`].
const DOCUMENT_TIME: u32 = 5;

/// A repository at one place.
pub(crate) struct Registry {
    pub(crate) place: Place,
    insecure: bool,
    /// Plain http may be tried where nobody speaks TLS: for registries declared insecure, and for loopback
    /// written as such unless somebody has said otherwise.
    plain: bool,
    /// `scheme://host[:port]/`, known once something answered.
    origin: OnceLock<Url>,
    /// The registry has answered: from now on a lost connection is worth another try.
    answered: AtomicBool,
    auth: Mutex<Auth>,
}

/// How requests are authorised now.
#[derive(Default)]
struct Auth {
    /// `None`: not looked up yet.
    credentials: Option<Option<Credentials>>,
    /// Why looking them up failed, for the message of a later 401.
    trouble: String,
    current: Option<Current>,
    /// Counts changes of `current`, so that of two threads with the same stale token one fetches a new one.
    generation: u64,
}

enum Current {
    Basic(HeaderValue),
    Bearer { realm: Url, service: String, token: Token },
}

impl Registry {
    pub(crate) fn new(place: Place, tls_verify: Option<bool>) -> Self {
        let insecure = tls_verify.map_or(place.insecure == Some(true), |verify| !verify);
        let silent = tls_verify.is_none() && place.insecure.is_none();
        let plain = insecure || (silent && is_loopback(place.reference.registry()));
        Self {
            place,
            insecure,
            plain,
            origin: OnceLock::new(),
            answered: AtomicBool::new(false),
            auth: Mutex::default(),
        }
    }

    /// `registry/repository`.
    pub(crate) fn name(&self) -> String {
        self.place.reference.name()
    }

    /// Gets the manifest or index that the reference stands for: bytes, digest, media type of the header.
    pub(crate) async fn manifest(
        &self,
        pull: &Pull<'_>,
        http: &Http<'_>,
        digest: Option<&Digest>,
    ) -> Result<(Vec<u8>, Digest, Option<String>), Error> {
        let version = digest.map_or(self.place.reference.version(), Digest::as_str);
        let what = digest.map_or_else(|| "the manifest".to_owned(), |d| format!("manifest {d}"));
        let path = format!("v2/{}/manifests/{version}", self.place.reference.repository());
        let ask = Ask { accept: Some(document::ACCEPT), ..Ask::default() };
        let (body, media_type) = self.document(pull, http, &what, &path, &ask, DOCUMENT_MAX).await?;
        let pinned = digest.or(self.place.reference.digest());
        let algorithm = pinned.map_or(oci::Algorithm::Sha256, Digest::algorithm);
        let actual = document::digest_of(algorithm, &body);
        match pinned {
            Some(expected) if *expected != actual => {
                let (expected, location) = (expected.clone(), self.name());
                Err(Error::WrongDigest { what, location, expected, actual })
            }
            _ => Ok((body, actual, media_type)),
        }
    }

    /// Gets a config.
    pub(crate) async fn config(
        &self,
        pull: &Pull<'_>,
        http: &Http<'_>,
        digest: &Digest,
        size: u64,
    ) -> Result<Vec<u8>, Error> {
        let what = format!("config {digest}");
        let path = self.blob_path(digest);
        Ok(self.document(pull, http, &what, &path, &Ask::default(), size).await?.0)
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> String {
        format!("v2/{}/blobs/{digest}", self.place.reference.repository())
    }

    /// Gets a small body whole, again where it breaks off.
    async fn document(
        &self,
        pull: &Pull<'_>,
        http: &Http<'_>,
        what: &str,
        path: &str,
        ask: &Ask<'_>,
        max: u64,
    ) -> Result<(Vec<u8>, Option<String>), Error> {
        let limits = &pull.request.limits;
        let mut tries = Tries::new(pull, what);
        loop {
            let answer = self.get(pull, http, what, path, ask, &mut tries).await?;
            let media_type = answer.header("content-type").map(str::to_owned);
            let failure = match tokio::time::timeout(limits.header * DOCUMENT_TIME, answer.body(max)).await {
                Ok(Ok(Some(body))) => return Ok((body, media_type)),
                Ok(Ok(None)) => {
                    let (what, location) = (what.to_owned(), self.name());
                    return Err(Error::WrongSize { what, location, expected: max, actual: "more".into() });
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Broken("it takes too long".into()),
            };
            tries.again(failure.about(self.place.reference.registry(), what), None).await?;
        }
    }

    /// Sends a GET until it succeeds, is refused, or the tries are used up. The answer's status is 2xx or, where
    /// a range was asked for, 416.
    pub(crate) async fn get(
        &self,
        pull: &Pull<'_>,
        http: &Http<'_>,
        what: &str,
        path: &str,
        ask: &Ask<'_>,
        tries: &mut Tries<'_>,
    ) -> Result<Answer, Error> {
        loop {
            let answer = match self.attempt(pull, http, what, path, ask).await {
                Ok(answer) => answer,
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Passing(error)) => {
                    tries.again(error, None).await?;
                    continue;
                }
            };
            for warning in answer.headers.get_all("warning").iter().filter_map(|v| v.to_str().ok()) {
                pull.warn_once(&format!("{}: {}", self.place.reference.registry(), warning_text(warning)));
            }
            let status = answer.status.as_u16();
            match status {
                200..=299 => return Ok(answer),
                416 if ask.from.is_some() => return Ok(answer),
                _ => {}
            }
            let retry_after = answer.header("retry-after").and_then(retry_after);
            let what = what.to_owned();
            let (location, detail) = (self.name(), answer.complaint().await);
            match status {
                401 => return Err(self.unauthorized(detail).await),
                403 => return Err(Error::Denied { location, detail }),
                404 => return Err(Error::NotFound { name: location, detail, hint: String::new() }),
                429 => tries.again(Error::RateLimited { location, detail, retry_after }, retry_after).await?,
                408 | 500..=599 => {
                    tries.again(Error::Status { what, location, status, detail }, retry_after).await?;
                }
                _ => return Err(Error::Status { what, location, status, detail }),
            }
        }
    }

    /// One GET with its rounds of authentication.
    async fn attempt(
        &self,
        pull: &Pull<'_>,
        http: &Http<'_>,
        what: &str,
        path: &str,
        ask: &Ask<'_>,
    ) -> Result<Answer, Attempt> {
        for round in 0.. {
            let (header, generation) = self.authorization(http).await?;
            let ask = Ask { authorization: header.as_ref(), insecure: self.insecure, ..ask.clone() };
            let answer = self.send(http, what, path, &ask).await?;
            let rejected = answer.status.as_u16() == 401 && answer.at_origin;
            if !rejected || round == AUTH_ROUNDS {
                return Ok(answer);
            }
            let challenges = auth::challenges(&answer.headers);
            if !self.answer_challenge(pull, http, &challenges, generation).await? {
                return Ok(answer);
            }
        }
        unreachable!("the loop returns")
    }

    /// Sends to `https`, or where it is allowed and nobody speaks TLS there, to `http`.
    async fn send(&self, http: &Http<'_>, what: &str, path: &str, ask: &Ask<'_>) -> Result<Answer, Attempt> {
        let host = match self.place.reference.registry() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/")).map_err(|e| {
                let location = host.to_owned();
                Attempt::Final(Error::Protocol { what: what.to_owned(), location, reason: e.to_string() })
            })
        };
        let base = match self.origin.get() {
            Some(origin) => origin.clone(),
            None => url("https")?,
        };
        let join = |base: &Url| base.join(path).unwrap_or_else(|_| base.clone());
        let mut result = http.send(&join(&base), ask).await;
        let mut used = base;
        if self.origin.get().is_none() && self.plain {
            // The server has not seen the request; a certificate that does not verify is no reason to go on.
            if let Err(Failure::NotTls | Failure::Connect(_) | Failure::Broken(_)) = result {
                let plain = url("http")?;
                let second = http.send(&join(&plain), ask).await;
                if second.is_ok() || matches!(result, Err(Failure::NotTls)) {
                    (used, result) = (plain, second);
                }
            }
        }
        match result {
            Ok(answer) => {
                let _ = self.origin.set(used);
                self.answered.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(failure) => {
                // A registry that was there a moment ago may just be restarting.
                let lost = self.answered.load(Ordering::Relaxed) && matches!(failure, Failure::Connect(_));
                let passes = failure.passes() || lost;
                let error = failure.about(host, what);
                Err(if passes { Attempt::Passing(error) } else { Attempt::Final(error) })
            }
        }
    }

    /// The header to send now; fetches a new token first if the one there is has ended.
    async fn authorization(&self, http: &Http<'_>) -> Result<(Option<HeaderValue>, u64), Attempt> {
        let mut auth = self.auth.lock().await;
        if let Some(Current::Bearer { realm, service, token }) = &auth.current
            && token.ends <= std::time::Instant::now()
        {
            let (realm, service) = (realm.clone(), service.clone());
            self.renew(http, &mut auth, realm, service).await?;
        }
        let header = auth.current.as_ref().map(|current| match current {
            Current::Basic(header) => header.clone(),
            Current::Bearer { token, .. } => token.header.clone(),
        });
        Ok((header, auth.generation))
    }

    /// Makes the authorization that a 401 asks for. `false`: there is none to be had.
    async fn answer_challenge(
        &self,
        pull: &Pull<'_>,
        http: &Http<'_>,
        challenges: &[Challenge],
        generation: u64,
    ) -> Result<bool, Attempt> {
        let mut auth = self.auth.lock().await;
        if auth.generation != generation {
            // Another thread has been here since the request was sent.
            return Ok(true);
        }
        if auth.credentials.is_none() {
            self.look_up(pull, &mut auth)?;
        }
        let bearer = challenges.iter().find_map(|c| match c {
            Challenge::Bearer { realm, service, .. } => Some((realm, service)),
            Challenge::Basic => None,
        });
        if let Some((realm, service)) = bearer {
            let registry = self.origin.get().expect("a challenge came from somewhere");
            let realm = auth::check_realm(realm, registry, self.insecure).map_err(|reason| {
                let location = self.name();
                Attempt::Final(Error::Protocol { what: "a token".into(), location, reason })
            })?;
            self.renew(http, &mut auth, realm, service.clone()).await?;
            return Ok(true);
        }
        let Some(Some(Credentials::Basic { user, password })) = &auth.credentials else { return Ok(false) };
        if !challenges.contains(&Challenge::Basic) || matches!(auth.current, Some(Current::Basic(_))) {
            return Ok(false);
        }
        auth.current = Some(Current::Basic(auth::basic(user, password)));
        auth.generation += 1;
        Ok(true)
    }

    async fn renew(
        &self,
        http: &Http<'_>,
        auth: &mut Auth,
        realm: Url,
        service: String,
    ) -> Result<(), Attempt> {
        let repository = self.place.reference.repository();
        let credentials = auth.credentials.iter().flatten().next();
        // What was said of the registry holds for a token server on its host, and for no other.
        let insecure = self.insecure && self.origin.get().is_some_and(|o| o.host() == realm.host());
        match auth::fetch_token(http, &realm, &service, repository, credentials, insecure).await {
            Ok(token) => {
                auth.current = Some(Current::Bearer { realm, service, token });
                auth.generation += 1;
                Ok(())
            }
            Err(TokenFailure::Passing(failure)) => {
                Err(Attempt::Passing(failure.about(&crate::http::host_of(&realm), "a token")))
            }
            Err(TokenFailure::Final(error)) => Err(Attempt::Final(error)),
            Err(TokenFailure::Refused(detail)) => Err(Attempt::Final(self.refused(auth, detail))),
        }
    }

    fn look_up(&self, pull: &Pull<'_>, auth: &mut Auth) -> Result<(), Attempt> {
        let stop = || pull.stopped();
        let helpers = pull.registries.helpers.as_deref();
        let lookup = credentials::find(&pull.request.settings, helpers, &self.place.reference, &stop)
            .map_err(Attempt::Final)?;
        pull.check().map_err(Attempt::Final)?;
        for trouble in &lookup.trouble {
            pull.warn_once(&format!("no credentials for {}: {trouble}", self.place.reference.registry()));
        }
        auth.trouble = lookup.trouble.join("; ");
        auth.credentials = Some(lookup.credentials);
        Ok(())
    }

    async fn unauthorized(&self, detail: String) -> Error {
        let auth = self.auth.lock().await;
        self.refused(&auth, detail)
    }

    fn refused(&self, auth: &Auth, detail: String) -> Error {
        let registry = self.place.reference.registry();
        let cure = match &auth.credentials {
            Some(Some(_)) => format!("the credentials for {registry} were not accepted; log in again"),
            _ if !auth.trouble.is_empty() => auth.trouble.clone(),
            _ => format!(
                "there are no credentials for {registry}: check the name, or log in, \
                 for instance with podman login {registry}"
            ),
        };
        Error::Unauthorized { location: self.name(), detail, cure }
    }

    /// Tags of this repository that look like the one that is not there; `None` if the registry does not tell.
    pub(crate) async fn tags_like(&self, pull: &Pull<'_>, http: &Http<'_>, tag: &str) -> Option<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct List {
            tags: Option<Vec<String>>,
        }
        let path = format!("v2/{}/tags/list?n=1000", self.place.reference.repository());
        let answer = self.attempt(pull, http, "the tags", &path, &Ask::default()).await.ok()?;
        if answer.status.as_u16() != 200 {
            return None;
        }
        let body = tokio::time::timeout(Duration::from_secs(5), answer.body(1 << 20)).await.ok()?.ok()??;
        let tags = serde_json::from_slice::<List>(&body).ok()?.tags?;
        Some(crate::hint::nearest(tag, &tags))
    }
}

/// Why one GET gave no answer.
enum Attempt {
    Passing(Error),
    Final(Error),
}

/// The text of `299 - "text"` (distribution-spec, "Warnings").
fn warning_text(value: &str) -> String {
    let text = value.split_once('"').map_or(value, |(_, rest)| rest.trim_end_matches('"'));
    one_line(text, 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_the_form_of_a_warning() {
        assert_eq!(warning_text("299 - \"end of life\x1b[1m\""), "end of life\\u{1b}[1m");
    }
}
