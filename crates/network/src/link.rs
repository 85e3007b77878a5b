//! What `--link` asks for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Hostname};

/// Another container under a name of its own for the one that asks (`--link CONTAINER[:ALIAS]`; docker-run(1)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerLink {
    /// The other one by name or ID, as it was typed.
    pub target: String,
    /// The name that it is found by.
    pub alias: Hostname,
    /// ID of the other one, found when the asking one was made; empty if there was none yet.
    #[serde(default)]
    pub id: String,
}

/// `CONTAINER[:ALIAS]`, also in the form that `inspect` shows: `/CONTAINER:/ASKING/ALIAS`.
impl FromStr for ContainerLink {
    type Err = Error;

    fn from_str(text: &str) -> Result<ContainerLink, Error> {
        let shown: String = text.chars().take(100).collect();
        let fail = |why: &str| Error::Invalid(format!("invalid link {shown:?}: {why}"));
        let wants = || fail("wants CONTAINER or CONTAINER:ALIAS, for instance db:database");
        let (target, alias) = text.split_once(':').unwrap_or((text, text));
        let target = target.strip_prefix('/').unwrap_or(target);
        let alias = alias.rsplit('/').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if target.is_empty() || alias.is_empty() || !target.chars().all(plain) || alias.contains(':') {
            return Err(wants());
        }
        let alias = alias.parse::<Hostname>().map_err(|e| fail(&format!("its alias: {e}")))?;
        Ok(ContainerLink { target: target.to_owned(), alias, id: String::new() })
    }
}

/// `CONTAINER:ALIAS`.
impl fmt::Display for ContainerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.target, self.alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases() {
        for (text, want) in [
            ("db", "db:db"),
            ("db:data", "db:data"),
            ("/db:/web/data", "db:data"),
            ("a.b_c-d:x_y", "a.b_c-d:x_y"),
        ] {
            assert_eq!(text.parse::<ContainerLink>().unwrap().to_string(), want);
        }
        for bad in ["", ":", "db:", ":x", "db:a:b", "db:a b", "d b", "db:a\n1.2.3.4 x", "db:-x", "a/b"] {
            let said = bad.parse::<ContainerLink>().unwrap_err().to_string();
            assert!(said.contains("invalid link"), "{bad:?}: {said}");
        }
        let long = format!("db:{}", "x".repeat(65));
        assert!(long.parse::<ContainerLink>().unwrap_err().to_string().contains("64 characters"));
    }
}
