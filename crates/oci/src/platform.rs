//! Platforms: `os/architecture[/variant]`, and which manifest of an index suits one.

use std::fmt;
use std::str::FromStr;

/// A platform as an index names it, in Go's spelling (`amd64`, not `x86_64`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// Operating system, for instance `linux`.
    pub os: String,
    /// Architecture, for instance `arm64`.
    pub architecture: String,
    /// Variant, for instance `v7`; `None` where the architecture has just one.
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {0:?}: wants OS/ARCH or OS/ARCH/VARIANT, for instance linux/arm64 or linux/arm/v7")]
pub struct ParsePlatformError(String);

impl Platform {
    /// The platform this program was built for.
    pub fn host() -> Self {
        Self::normalised("linux", std::env::consts::ARCH, None)
    }

    /// Makes a platform of an index entry or user input, with the usual aliases folded
    /// (`x86_64` → `amd64`, `aarch64` → `arm64`, `armhf` → `arm/v7`, `arm64/v8` → `arm64`, `arm` → `arm/v7`).
    pub fn normalised(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = os.to_ascii_lowercase();
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.map(str::to_ascii_lowercase).filter(|v| !v.is_empty());
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
            ("i386" | "i486" | "i586" | "i686" | "x86" | "386", v) => ("386", v),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64" | "arm64", v) => ("arm64", v),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            ("powerpc64le", v) => ("ppc64le", v),
            (a, v) => (a, v),
        };
        Self { os, architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    /// How well an image for `offered` suits someone who wants `self`: `None` not at all, else lower is better
    /// (0 = exact). arm runs every lower variant, amd64 every lower `vN`, and arm64 no 32-bit image.
    pub fn rank(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let level = |v: &Option<String>| -> Option<u32> {
            v.as_deref().map_or(Some(1), |v| v.strip_prefix('v').and_then(|n| n.parse().ok()))
        };
        match (self.architecture.as_str(), level(&self.variant), level(&offered.variant)) {
            _ if self.variant == offered.variant => Some(0),
            ("arm" | "amd64", Some(want), Some(have)) if have <= want => Some(want - have),
            // An index that names a variant nobody asked about, for instance arm64/v8.0.
            ("amd64" | "arm", _, _) => None,
            (_, _, _) if self.variant.is_none() => Some(1),
            _ => None,
        }
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |s: &str| {
            !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|p| part(p)) {
            return Err(ParsePlatformError(text.to_owned()));
        }
        match parts[..] {
            [os, architecture] => Ok(Self::normalised(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::normalised(os, architecture, Some(variant))),
            _ => Err(ParsePlatformError(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn folds_aliases() {
        assert_eq!(platform("linux/x86_64"), platform("linux/amd64"));
        assert_eq!(platform("linux/arm64/v8"), platform("linux/aarch64"));
        assert_eq!(platform("Linux/armhf").to_string(), "linux/arm/v7");
    }

    #[test]
    fn refuses_other_shapes() {
        for bad in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ranks_variants() {
        assert_eq!(platform("linux/arm/v7").rank(&platform("linux/arm/v6")), Some(1));
        assert_eq!(platform("linux/arm/v6").rank(&platform("linux/arm/v7")), None);
        assert_eq!(platform("linux/amd64").rank(&platform("linux/amd64/v3")), None);
        assert_eq!(platform("linux/amd64/v3").rank(&platform("linux/amd64")), Some(2));
        assert_eq!(platform("linux/arm64").rank(&platform("linux/arm/v7")), None);
        assert_eq!(platform("linux/s390x").rank(&platform("windows/s390x")), None);
    }
}
