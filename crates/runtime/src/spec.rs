//! Reading config.json: size cap, syntax, and errors that name the place in the document.
//!
//! Whether a spec makes sense is [`crate::plan`]'s business.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::{Error, ErrorKind, Spec};

/// Longest config.json that is read, in bytes.
pub const MAX_CONFIG: u64 = 16 << 20;

/// Reads the spec at `path`.
///
/// # Errors
/// The file cannot be read or is longer than [`MAX_CONFIG`]; what [`parse`] finds.
pub fn load(path: &Path) -> Result<Spec, Error> {
    let fail = |e| Error::new(format!("open {path:?}")).because(e);
    let file = File::open(path).map_err(fail)?;
    // Room for a usual one, or it would be read in many small pieces.
    let mut json = Vec::with_capacity(32 << 10);
    file.take(MAX_CONFIG + 1).read_to_end(&mut json).map_err(fail)?;
    if json.len() as u64 > MAX_CONFIG {
        return Err(
            Error::new(format!("{path:?} is longer than {MAX_CONFIG} bytes")).kind(ErrorKind::Invalid)
        );
    }
    parse(&json).map_err(|e| Error::new(format!("parse {path:?}")).because(e))
}

/// Parses a spec.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`], naming the JSON path of the first field that does not fit.
pub fn parse(json: &[u8]) -> Result<Spec, Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let error = match serde_path_to_error::deserialize(&mut reader) {
        Ok(spec) => {
            reader.end().map_err(|e| Error::new("config").kind(ErrorKind::Invalid).because(e))?;
            return Ok(crate::resources::without_empty_pids(spec, json));
        }
        Err(error) => error,
    };
    // A capability that a newer specification knows is no reason to fail: every runtime warns and goes on.
    if error.path().to_string().starts_with("process.capabilities.")
        && let Some(spec) = without_unknown_capabilities(json)
    {
        return Ok(spec);
    }
    let path = error.path().to_string();
    Err(Error::new(path).kind(ErrorKind::Invalid).because(error.into_inner()))
}

fn without_unknown_capabilities(json: &[u8]) -> Option<Spec> {
    let mut spec: Value = serde_json::from_slice(json).ok()?;
    let sets = spec.get_mut("process")?.get_mut("capabilities")?.as_object_mut()?;
    for (set, names) in sets.iter_mut() {
        let Value::Array(names) = names else { continue };
        names.retain(|name| {
            let known = serde_json::from_value::<oci::runtime::Capability>(name.clone()).is_ok();
            if !known {
                tracing::warn!(
                    "process.capabilities.{set}: ignoring unknown or unavailable capability {name}"
                );
            }
            known
        });
    }
    serde_json::from_value(spec).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_place() {
        let spec = br#"{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"pid"},{"type":"pidd"}]}}"#;
        let error = parse(spec).unwrap_err();
        assert_eq!(error.what(), ErrorKind::Invalid);
        assert!(
            format!("{error:#}").starts_with("linux.namespaces[1].type: unknown variant `pidd`"),
            "{error:#}"
        );
        let error =
            parse(br#"{"ociVersion":"1.0.2","process":{"user":{"uid":-1,"gid":0},"cwd":"/"}}"#).unwrap_err();
        assert!(format!("{error:#}").starts_with("process.user.uid: "), "{error:#}");
        assert!(parse(b"{} x").is_err());
        assert!(parse(b"").is_err());
    }

    #[test]
    fn unknown_capabilities_are_left_out() {
        let json = br#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"cwd":"/",
            "capabilities":{"bounding":["CAP_CHOWN","CAP_NOT_YET"]}}}"#;
        let spec = parse(json).unwrap();
        let sets = spec.process().as_ref().unwrap().capabilities().as_ref().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
    }
}
