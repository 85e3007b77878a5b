//! Where an image comes from, in skopeo's spelling.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci::{ParseReferenceError, Reference};

/// A place that has an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A name in a registry.
    Registry(Reference),
    /// `oci:DIR[:TAG]`, an OCI image layout.
    OciDir {
        /// The directory that holds `index.json`.
        path: PathBuf,
        /// `org.opencontainers.image.ref.name` of the wanted manifest; needed if there are several.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`, a tar of an OCI image layout, plain or compressed.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// As in [`Source::OciDir`].
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:NAME[:TAG]]`, what `docker save` writes, plain or compressed.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// Which image of the archive; needed if there are several.
        name: Option<Reference>,
    },
}

/// Why a text names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSourceError {
    /// Not a name of an image.
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
    /// A transport without a path.
    #[error("invalid image source {text:?}: wants {shape}")]
    NoPath {
        /// The text as given.
        text: String,
        /// What it should look like.
        shape: &'static str,
    },
}

impl FromStr for Source {
    type Err = ParseSourceError;

    /// A colon ends a path, as in skopeo: a path that has one cannot be written.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = |rest: &str, shape| match rest.split_once(':') {
            _ if rest.is_empty() || rest.starts_with(':') => {
                Err(ParseSourceError::NoPath { text: text.chars().take(300).collect(), shape })
            }
            Some((path, tag)) => Ok((PathBuf::from(path), Some(tag.to_owned()).filter(|t| !t.is_empty()))),
            None => Ok((PathBuf::from(rest), None)),
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = split(rest, "oci:DIR[:TAG]")?;
            return Ok(Self::OciDir { path, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = split(rest, "oci-archive:FILE[:TAG]")?;
            return Ok(Self::OciArchive { path, tag });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (path, name) = split(rest, "docker-archive:FILE[:NAME[:TAG]]")?;
            return Ok(Self::DockerArchive { path, name: name.map(|n| n.parse()).transpose()? });
        }
        Ok(Self::Registry(text.parse()?))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, tag) = match self {
            Self::Registry(reference) => return write!(f, "{reference}"),
            Self::OciDir { path, tag } => ("oci", path, tag.clone()),
            Self::OciArchive { path, tag } => ("oci-archive", path, tag.clone()),
            Self::DockerArchive { path, name } => {
                ("docker-archive", path, name.as_ref().map(ToString::to_string))
            }
        };
        write!(f, "{transport}:{}", path.display())?;
        tag.map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_transport() {
        let table = [
            ("python", "docker.io/library/python:latest"),
            ("oci:/a/b", "oci:/a/b"),
            ("oci:dir:1.0", "oci:dir:1.0"),
            ("oci-archive:a.tar:v/1:2", "oci-archive:a.tar:v/1:2"),
            ("docker-archive:a.tgz", "docker-archive:a.tgz"),
            ("docker-archive:a.tgz:py", "docker-archive:a.tgz:docker.io/library/py:latest"),
        ];
        for (text, want) in table {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), want, "{text}");
        }
        for bad in ["oci:", "oci-archive::x", "docker-archive:a:Bad", "docker://python"] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }
}
