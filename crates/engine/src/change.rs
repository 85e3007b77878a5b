//! `--change` of `commit`: one line of a Dockerfile that changes an image's config.

use serde_json::{Value, json};

use crate::health::Healthcheck;
use crate::time;

/// Changes the `config` object of an image's config.
///
/// # Errors
/// It is no such line; the text names what is wrong.
pub(crate) fn apply(config: &mut Value, line: &str) -> Result<(), String> {
    let (instruction, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    let (instruction, rest) = (instruction.to_ascii_uppercase(), rest.trim());
    let fail = |why: &str| Err(format!("invalid change {line:?}: {why}"));
    if rest.is_empty() {
        return fail("wants an instruction and its argument, for instance CMD [\"sh\"]");
    }
    match instruction.as_str() {
        "CMD" => config["Cmd"] = command(rest),
        "ENTRYPOINT" => config["Entrypoint"] = command(rest),
        "USER" => config["User"] = json!(rest),
        "WORKDIR" => {
            let old = config["WorkingDir"].as_str().unwrap_or("/").to_owned();
            let dir = if rest.starts_with('/') { rest.to_owned() } else { format!("{old}/{rest}") };
            config["WorkingDir"] = json!(crate::mount::clean(&dir));
        }
        "STOPSIGNAL" => config["StopSignal"] = json!(rest),
        "ENV" => {
            for (key, value) in pairs(rest).map_err(|why| format!("invalid change {line:?}: {why}"))? {
                set_env(config, &format!("{key}={value}"));
            }
        }
        "LABEL" => {
            for (key, value) in pairs(rest).map_err(|why| format!("invalid change {line:?}: {why}"))? {
                config["Labels"][key] = json!(value);
            }
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                let known = matches!(protocol, "tcp" | "udp" | "sctp");
                if !known || !number.parse::<u16>().is_ok_and(|n| n > 0) {
                    return fail("wants ports such as 80 or 53/udp");
                }
                config["ExposedPorts"][format!("{number}/{protocol}")] = json!({});
            }
        }
        "VOLUME" => {
            let list = list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            for volume in list {
                config["Volumes"][volume] = json!({});
            }
        }
        "HEALTHCHECK" => match healthcheck(rest) {
            Some(check) => config["Healthcheck"] = json!(check),
            None => {
                return fail(
                    "wants NONE, or CMD and a command, before it --interval=, --timeout=, --start-period=, \
                     --start-interval= or --retries=",
                );
            }
        },
        _ => {
            return fail(
                "wants CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR",
            );
        }
    }
    Ok(())
}

/// Sets `KEY=VALUE` in the environment.
pub(crate) fn set_env(config: &mut Value, variable: &str) {
    let key = variable.split('=').next().unwrap_or_default();
    let is_it = |entry: &Value| entry.as_str().is_some_and(|entry| entry.split('=').next() == Some(key));
    match &mut config["Env"] {
        Value::Array(list) => match list.iter_mut().find(|entry| is_it(entry)) {
            Some(entry) => *entry = json!(variable),
            None => list.push(json!(variable)),
        },
        other => *other = json!([variable]),
    }
}

/// `["a", "b"]`.
fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// `--interval=30s CMD curl -f localhost`.
fn healthcheck(text: &str) -> Option<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace)?;
        let (key, value) = flag.split_once('=')?;
        let nanos = || time::duration(value);
        match key {
            "interval" => check.interval = nanos()?,
            "timeout" => check.timeout = nanos()?,
            "start-period" => check.start_period = nanos()?,
            "start-interval" => check.start_interval = nanos()?,
            "retries" => check.retries = value.parse().ok().filter(|count| *count >= 0)?,
            _ => return None,
        }
        rest = after.trim_start();
    }
    let (kind, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match (kind.to_ascii_uppercase().as_str(), line.trim()) {
        ("NONE", "") => vec!["NONE".to_owned()],
        ("CMD", line) if !line.is_empty() => match list(line) {
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        },
        _ => return None,
    };
    Some(check)
}

/// A list of words, or a line for the shell.
fn command(text: &str) -> Value {
    json!(list(text).unwrap_or_else(|| ["/bin/sh", "-c", text].map(str::to_owned).to_vec()))
}

/// `A=1 B="2 3"`, or `A 1`, as a Dockerfile has it.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let words = words(text)?;
    if words.iter().all(|word| word.contains('=')) {
        let split = |word: &String| word.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        return Ok(words.iter().filter_map(split).collect());
    }
    match text.split_once(char::is_whitespace) {
        Some((key, value)) if !key.contains('=') => Ok(vec![(key.to_owned(), value.trim().to_owned())]),
        _ => Err("wants KEY=VALUE".to_owned()),
    }
}

/// Words as the shell has them: quotes and backslashes hold spaces.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => word.extend(letters.next()),
            (_, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(letter);
                any = true;
            }
            (_, None) if letter.is_whitespace() => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                    any = false;
                }
            }
            _ => word.push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_dockerfile() {
        let mut config = json!({ "Env": ["A=0", "PATH=/bin"], "WorkingDir": "/w" });
        for line in [
            "CMD [\"a\", \"b c\"]",
            "entrypoint run me",
            "ENV A=1 B=\"2 3\"",
            "ENV C 4 5",
            "LABEL x=y z='q r'",
            "EXPOSE 80 53/udp",
            "VOLUME [\"/data\"]",
            "VOLUME /x",
            "WORKDIR sub/../dir",
            "USER 1:2",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD test -f /ok",
        ] {
            apply(&mut config, line).unwrap();
        }
        assert_eq!(
            config,
            json!({
                "Env": ["A=1", "PATH=/bin", "B=2 3", "C=4 5"],
                "WorkingDir": "/w/dir",
                "Cmd": ["a", "b c"],
                "Entrypoint": ["/bin/sh", "-c", "run me"],
                "Labels": { "x": "y", "z": "q r" },
                "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
                "Volumes": { "/data": {}, "/x": {} },
                "User": "1:2",
                "StopSignal": "SIGINT",
                "Healthcheck": { "Test": ["CMD-SHELL", "test -f /ok"], "Interval": 90_000_000_000_i64, "Retries": 2 },
            })
        );
        apply(&mut config, "HEALTHCHECK CMD [\"a\", \"b\"]").unwrap();
        assert_eq!(config["Healthcheck"], json!({ "Test": ["CMD", "a", "b"] }));
        apply(&mut config, "HEALTHCHECK none").unwrap();
        assert_eq!(config["Healthcheck"], json!({ "Test": ["NONE"] }));
        for bad in [
            "",
            "CMD",
            "RUN x",
            "EXPOSE x",
            "EXPOSE 80/icmp",
            "ENV A=\"1",
            "ENV A",
            "HEALTHCHECK CMD",
            "HEALTHCHECK --interval=soon CMD x",
            "HEALTHCHECK --every=1s CMD x",
            "HEALTHCHECK true",
        ] {
            assert!(apply(&mut config, bad).unwrap_err().contains("invalid change"), "{bad}");
        }
    }
}
