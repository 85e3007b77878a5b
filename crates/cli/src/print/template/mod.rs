//! Go's text/template over JSON values, as far as users of `--format` go: fields, variables, pipelines, `if`,
//! `with`, `range`, comparison, and docker's functions (`json`, `join`, `split`, `lower`, …).
//!
//! What is outside of that (`define`, `block`, `template`, `break`, method calls) is refused by name when the
//! template is read, never printed wrongly.

mod eval;
mod function;
mod lex;
mod parse;

use serde_json::Value;

/// A template that was read and is sound.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
    text: String,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { nodes: parse::parse(text)?, text: text.to_owned() })
    }

    /// Whether `.FIELD` is in it, be it as plain text.
    pub(crate) fn names(&self, field: &str) -> bool {
        self.text.contains(&format!(".{field}"))
    }

    /// What the template says of `value`.
    ///
    /// # Errors
    /// A field that `value` does not have, or a function that cannot take what it is given.
    pub(crate) fn render(&self, value: &Value) -> Result<String, String> {
        eval::render(&self.nodes, value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> Result<String, String> {
        let value = json!({
            "ID": "0123", "Names": "web", "Pid": 7, "Rate": 1.5, "Running": true, "Nothing": null, "Empty": "",
            "Tags": ["a:1", "b:2"], "None": [],
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"org.x": "y", "z": "w"}},
            "Mounts": [{"Source": "/a", "RW": true}, {"Source": "/b", "RW": false}],
        });
        Template::parse(template)?.render(&value)
    }

    #[test]
    fn renders_what_docker_users_type() {
        for (template, want) in [
            ("", ""),
            ("plain", "plain"),
            ("{{.ID}}", "0123"),
            ("{{ .ID }}: {{.Names}}", "0123: web"),
            ("{{.Pid}} {{.Rate}} {{.Running}} {{.Nothing}}", "7 1.5 true <no value>"),
            ("{{.Config.Labels.z}}", "w"),
            ("{{.Config.Labels.absent}}", "<no value>"),
            ("{{.Tags}} {{.Config.Labels}}", "[a:1 b:2] map[org.x:y z:w]"),
            ("{{json .Tags}} {{json .ID}} {{.Pid | json}}", r#"["a:1","b:2"] "0123" 7"#),
            ("{{index .Tags 1}} {{index .Config.Labels \"org.x\"}}", "b:2 y"),
            ("[{{index .Config.Labels \"absent\"}}]", "[]"),
            ("{{(index .Mounts 0).Source}} {{index .Mounts 1 \"Source\"}}", "/a /b"),
            ("{{len .Tags}} {{len .ID}}", "2 4"),
            ("{{range .Tags}}<{{.}}>{{end}}", "<a:1><b:2>"),
            ("{{range .None}}x{{else}}none{{end}}", "none"),
            ("{{range $i, $t := .Tags}}{{$i}}={{$t}};{{end}}", "0=a:1;1=b:2;"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "org.x=y;z=w;"),
            ("{{range $t := .Tags}}{{$t}}{{$.ID}};{{end}}", "a:10123;b:20123;"),
            ("{{range .Mounts}}{{.Source}}{{if .RW}}+{{else}}-{{end}} {{end}}", "/a+ /b- "),
            ("{{if .Empty}}a{{else if .Running}}b{{else}}c{{end}}", "b"),
            ("{{if and .Running (not .Empty)}}y{{end}}{{if or .Empty .None}}n{{end}}", "y"),
            ("{{if eq .Names \"web\"}}1{{end}}{{if ne .Pid 7}}2{{end}}{{if gt .Pid 6}}3{{end}}", "13"),
            ("{{eq .Names \"a\" \"web\"}} {{le 1 1}} {{lt \"a\" \"b\"}}", "true true true"),
            ("{{with .Config}}{{len .Env}}{{end}}{{with .Empty}}x{{else}}-{{end}}", "2-"),
            ("{{$x := .Names}}{{upper $x}} {{$x | title}} {{lower \"ABC\"}}", "WEB Web abc"),
            ("{{$n := 0}}{{range .Tags}}{{$n = .}}{{end}}{{$n}}", "b:2"),
            ("{{join .Tags \", \"}} {{json (split \"a,b\" \",\")}}", r#"a:1, b:2 ["a","b"]"#),
            (
                "{{printf \"%s-%d|%q|%v|%5s|%-4d|%%\" .ID .Pid .ID .Tags .Names 7}}",
                "0123-7|\"0123\"|[a:1 b:2]|  web|7   |%",
            ),
            ("{{println .ID}}", "0123\n"),
            ("{{print .ID .Pid}} {{truncate .Names 2}}|{{pad .ID 1 2}}|", "01237 we| 0123  |"),
            ("a {{- .ID -}} b", "a0123b"),
            ("a {{/* note */}}b{{- /* x */ -}} c", "a bc"),
            ("{{\"a\\tb\"}} {{`raw\\t`}} {{`}}`}}", "a\tb raw\\t }}"),
            ("{{.}}{{with .Pid}}{{.}}{{end}}", &(render("{{.}}").unwrap() + "7")),
            ("{{true}} {{-3}} {{1.25}}", "true -3 1.25"),
            ("{{slice .ID 1 3}}", "12"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(want), "{template}");
        }
    }

    #[test]
    fn refuses_by_name() {
        for (template, reason) in [
            ("{{.Name}}", "no field .Name; did you mean .Names"),
            ("{{.Config.Cmd}}", "no field .Config.Cmd; there are .Env .Labels"),
            ("{{.ID.Foo}}", "no field .ID.Foo: .ID is a string"),
            ("{{.Nothing.Foo}}", "no field .Nothing.Foo: .Nothing is not set"),
            ("{{.ID", "is not closed"),
            ("{{}}", "is empty"),
            ("{{if .ID}}x", "{{if}} has no {{end}}"),
            ("x{{end}}", "{{end}} without"),
            ("{{else}}", "{{else}} without"),
            ("{{range .Tags}}{{else}}{{else}}{{end}}", "{{else}} without"),
            ("{{nope .ID}}", "no function \"nope\""),
            ("{{template \"x\"}}", "{{template}} is not supported"),
            ("{{break}}", "{{break}} is not supported"),
            ("{{$x}}", "no variable $x"),
            ("{{range .ID}}{{end}}", "range wants a list or a map"),
            ("{{index .Tags 2}}", "2 is past the end"),
            ("{{index .Tags -1}}", "is not an index"),
            ("{{index .Tags \"a\"}}", "is not an index"),
            ("{{len .Pid}}", "len wants"),
            ("{{join .ID \",\"}}", "join wants"),
            ("{{lt .Pid \"a\"}}", "lt wants"),
            ("{{upper .Pid}}", "upper wants"),
            ("{{printf \"%s %s\" .ID}}", "printf has no value for"),
            ("{{printf \"%z\" .ID}}", "printf does not know %z"),
            ("{{.ID | }}", "nothing after |"),
            ("{{\"abc}}", "is not closed"),
            ("{{(.ID}}", "is not closed"),
            ("{{.ID .Names}}", "is not a function"),
            ("{{#}}", "does not belong"),
        ] {
            let said = render(template).expect_err(template);
            assert!(said.contains(reason), "{template}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
