//! `--mount type=…,source=…,target=…`, docker's long form of `--volume` and `--tmpfs`.

use engine::{Origin, Tmpfs, Volume};

/// What it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    /// `type=bind` and `type=volume`.
    Volume(Volume),
    /// `type=tmpfs`.
    Tmpfs(Tmpfs),
}

/// Everything that was said, before it is known whether it fits together.
#[derive(Debug, Default)]
struct Fields<'a> {
    kind: Option<&'a str>,
    source: Option<&'a str>,
    target: Option<&'a str>,
    read_only: bool,
    propagation: Option<&'a str>,
    recursive: Option<&'a str>,
    create: bool,
    id_mapped: bool,
    no_copy: bool,
    size: Option<&'a str>,
    mode: Option<&'a str>,
}

/// Reads `KEY=VALUE,KEY,…`.
///
/// # Errors
/// A key that there is not, or that does not belong to the type.
pub(crate) fn parse(text: &str) -> Result<Mount, String> {
    let mut fields = Fields::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
        fields.take(&key.trim().to_ascii_lowercase(), value)?;
    }
    fields.mount()
}

impl<'a> Fields<'a> {
    fn take(&mut self, key: &str, value: Option<&'a str>) -> Result<(), String> {
        let wanted =
            || value.filter(|v| !v.is_empty()).ok_or_else(|| format!("{key} wants a value: {key}=…"));
        match key {
            "type" => self.kind = Some(wanted()?),
            "source" | "src" => self.source = Some(wanted()?),
            "target" | "destination" | "dst" => self.target = Some(wanted()?),
            "readonly" | "ro" => self.read_only = boolean(key, value)?,
            // What SELinux and other hosts know; it changes nothing here.
            "consistency" | "relabel" => drop(wanted()?),
            "bind-propagation" => self.propagation = Some(wanted()?),
            "bind-recursive" => self.recursive = Some(wanted()?),
            "bind-nonrecursive" => self.recursive = boolean(key, value)?.then_some("disabled"),
            "bind-create-src" => self.create = boolean(key, value)?,
            "idmap" => self.id_mapped = boolean(key, value)?,
            "volume-nocopy" => self.no_copy = boolean(key, value)?,
            "volume-driver" if value == Some("local") => {}
            "volume-driver" => return Err("volume-driver: local is the only one".to_owned()),
            "volume-label" => {
                return Err(
                    "volume-label is not supported; make the volume with it (rcr volume create --label)"
                        .to_owned(),
                );
            }
            "volume-opt" | "volume-subpath" => return Err(format!("{key} is not supported")),
            "tmpfs-size" => self.size = Some(wanted()?),
            "tmpfs-mode" => self.mode = Some(wanted()?),
            _ => {
                return Err(format!(
                    "unexpected key {key:?}; wants type, source, target, readonly, bind-propagation, \
                     bind-recursive, idmap, volume-nocopy, tmpfs-size, tmpfs-mode"
                ));
            }
        }
        Ok(())
    }

    fn mount(self) -> Result<Mount, String> {
        let kind = self.kind.unwrap_or("volume");
        let target = self.target.ok_or("target is required, for instance target=/data")?;
        if !target.starts_with('/') || target.trim_end_matches('/').is_empty() {
            return Err(format!("target {target:?}: wants an absolute path other than /"));
        }
        let foreign = [
            ("bind", "bind-propagation", self.propagation.is_some()),
            ("bind", "bind-recursive", self.recursive.is_some()),
            ("bind", "bind-create-src", self.create),
            ("bind", "idmap", self.id_mapped),
            ("volume", "volume-nocopy", self.no_copy),
            ("tmpfs", "tmpfs-size", self.size.is_some()),
            ("tmpfs", "tmpfs-mode", self.mode.is_some()),
        ];
        if let Some((of, key, _)) = foreign.iter().find(|(of, _, given)| *given && *of != kind) {
            return Err(format!("cannot mix {key} with mount type {kind:?}: it is of type={of}"));
        }
        match kind {
            "bind" => self.bind(target),
            "volume" => {
                let origin = match self.source {
                    None => Origin::Anonymous,
                    Some(name) if super::volume::is_name(name) => Origin::Named(name.to_owned()),
                    Some(other) => {
                        return Err(format!(
                            "{other:?} is no volume's name ([a-zA-Z0-9][a-zA-Z0-9_.-]*); a path of the host is type=bind"
                        ));
                    }
                };
                let options = [("ro", self.read_only), ("nocopy", self.no_copy)];
                let options = options.iter().filter(|(_, on)| *on).map(|(o, _)| (*o).to_owned()).collect();
                Ok(Mount::Volume(Volume { origin, target: target.to_owned(), options, must_exist: false }))
            }
            "tmpfs" => self.tmpfs(target),
            "image" | "npipe" | "cluster" => Err(format!("mount type {kind:?} is not supported")),
            _ => Err(format!("invalid mount type {kind:?}: wants bind, volume or tmpfs")),
        }
    }

    fn bind(self, target: &str) -> Result<Mount, String> {
        let source = self.source.ok_or("source is required with type=bind, for instance source=/srv/data")?;
        if !source.starts_with('/') && !source.starts_with('.') {
            return Err(format!("source {source:?}: wants a path (/… or ./…) with type=bind"));
        }
        let mut options = Vec::new();
        let propagation = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
        if let Some(word) = self.propagation {
            if !propagation.contains(&word) {
                return Err(format!("bind-propagation {word:?}: wants one of {}", propagation.join(" ")));
            }
            options.push(word.to_owned());
        }
        let read_only = match self.recursive {
            None | Some("enabled") => "ro",
            Some("disabled") => {
                options.push("bind".to_owned());
                "ro"
            }
            Some("writable") if self.read_only => "norro",
            Some("readonly") if self.read_only && self.propagation == Some("rprivate") => "ro",
            Some(word @ ("writable" | "readonly")) if !self.read_only => {
                return Err(format!("bind-recursive={word} requires readonly"));
            }
            Some("readonly") => {
                return Err("bind-recursive=readonly requires bind-propagation=rprivate".to_owned());
            }
            Some(word) => {
                return Err(format!(
                    "bind-recursive {word:?}: wants enabled, disabled, writable or readonly"
                ));
            }
        };
        if self.read_only {
            options.push(read_only.to_owned());
        }
        if self.id_mapped {
            options.push("idmap".to_owned());
        }
        let origin = Origin::Path(source.to_owned());
        Ok(Mount::Volume(Volume { origin, target: target.to_owned(), options, must_exist: !self.create }))
    }

    fn tmpfs(self, target: &str) -> Result<Mount, String> {
        if self.source.is_some() {
            return Err("source does not belong to type=tmpfs".to_owned());
        }
        let mut options = Vec::new();
        if let Some(size) = self.size {
            let bytes = super::size::parse(size).map_err(|why| format!("tmpfs-size {size:?}: {why}"))?;
            options.push(format!("size={bytes}"));
        }
        if let Some(mode) = self.mode {
            match u32::from_str_radix(mode, 8) {
                Ok(bits) if bits <= 0o7777 => options.push(format!("mode={bits:o}")),
                _ => return Err(format!("tmpfs-mode {mode:?}: wants octal digits, for instance 1777")),
            }
        }
        if self.read_only {
            options.push("ro".to_owned());
        }
        Ok(Mount::Tmpfs(Tmpfs { target: target.to_owned(), options }))
    }
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("{key} {other:?}: wants true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(Mount::Volume(v)) => {
                format!("{:?} {} {} {}", v.origin, v.target, v.options.join(","), v.must_exist)
            }
            Ok(Mount::Tmpfs(t)) => format!("tmpfs {} {}", t.target, t.options.join(",")),
            Err(why) => why,
        }
    }

    #[test]
    fn every_type_and_key() {
        for (text, want) in [
            ("type=bind,source=/a,target=/b", "Path(\"/a\") /b  true"),
            ("type=bind,src=./a,dst=/b,ro,bind-propagation=rslave", "Path(\"./a\") /b rslave,ro true"),
            ("type=bind,src=/a,dst=/b,readonly=true,bind-recursive=writable", "Path(\"/a\") /b norro true"),
            ("type=bind,src=/a,dst=/b,bind-nonrecursive,bind-create-src", "Path(\"/a\") /b bind false"),
            ("type=bind,src=/a,dst=/b,ro,idmap", "Path(\"/a\") /b ro,idmap true"),
            ("source=data,destination=/d", "Named(\"data\") /d  false"),
            ("type=volume,target=/d,volume-nocopy=1,readonly", "Anonymous /d ro,nocopy false"),
            ("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700", "tmpfs /t size=1048576,mode=700"),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
    }

    #[test]
    fn refusals_say_what_is_wanted() {
        for (text, want) in [
            ("", "unexpected key"),
            ("type=bind,source=/a", "target is required"),
            ("type=bind,target=/a", "source is required"),
            ("type=bind,source=a,target=/b", "wants a path"),
            ("type=volume,source=/a,target=/b", "type=bind"),
            ("type=tmpfs,source=/a,target=/b", "does not belong"),
            ("type=tmpfs,target=/b,bind-propagation=shared", "cannot mix"),
            ("type=volume,target=/b,idmap", "cannot mix idmap"),
            ("type=bind,source=/a,target=/b,tmpfs-size=1", "cannot mix tmpfs-size"),
            ("type=bind,source=/a,target=/b,bind-recursive=readonly,ro", "requires bind-propagation"),
            ("type=bind,source=/a,target=/b,bind-recursive=writable", "requires readonly"),
            ("type=what,target=/b", "wants bind, volume or tmpfs"),
            ("type=image,target=/b", "not supported"),
            ("target=b", "absolute"),
            ("target=/b,volume-opt=o=x", "not supported"),
            ("target=/b,readonly=maybe", "true or false"),
            ("type=tmpfs,target=/t,tmpfs-mode=9", "octal"),
        ] {
            let said = shown(text);
            assert!(said.contains(want), "{text}: {said}");
        }
    }
}
