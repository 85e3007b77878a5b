//! What a descriptor's media type says: index, manifest, config or layer, and how a layer is packed.

/// How a layer's tar stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, of one or several members.
    Gzip,
    /// zstd, of one or several frames.
    Zstd,
}

/// The kind of thing a media type names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// An OCI image index or a Docker manifest list.
    Index,
    /// An OCI or Docker schema 2 image manifest.
    Manifest,
    /// An image config (JSON).
    Config,
    /// A filesystem layer. Media types lie: the first bytes decide, and then the DiffID.
    Layer(Compression),
    /// A layer that was encrypted (ocicrypt); rcr has no keys.
    EncryptedLayer,
    /// Docker's schema 1, dropped by every registry.
    Schema1,
    /// Anything else: an artifact, a signature, a chart.
    Other,
}

/// Sorts a media type; parameters after `;` are ignored, upper case is folded.
pub fn classify(media_type: &str) -> MediaKind {
    let bare = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match bare.as_str() {
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => MediaKind::Index,
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => MediaKind::Manifest,
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => {
            MediaKind::Config
        }
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => MediaKind::Schema1,
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => MediaKind::Layer(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => MediaKind::Layer(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => MediaKind::Layer(Compression::Zstd),
        other if other.contains(".layer.") && other.ends_with("+encrypted") => MediaKind::EncryptedLayer,
        _ => MediaKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_by_bare_type() {
        assert_eq!(classify("application/vnd.oci.image.index.v1+json; charset=utf-8"), MediaKind::Index);
        assert_eq!(
            classify("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            MediaKind::EncryptedLayer
        );
        assert_eq!(classify("application/vnd.oci.empty.v1+json"), MediaKind::Other);
        assert_eq!(
            classify("application/vnd.docker.image.rootfs.diff.tar.gzip"),
            MediaKind::Layer(Compression::Gzip)
        );
    }
}
