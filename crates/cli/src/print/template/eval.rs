//! A template's tree and a JSON value into text.

use std::collections::HashMap;

use serde_json::Value;

use super::function;
use super::parse::{Call, Node, Operand, Pipeline};

pub(super) fn render(nodes: &[Node], root: &Value) -> Result<String, String> {
    let mut run = Run { variables: HashMap::from([(String::new(), root.clone())]), out: String::new() };
    run.nodes(nodes, root)?;
    Ok(run.out)
}

struct Run {
    /// `$` is the one without a name.
    variables: HashMap<String, Value>,
    out: String,
}

impl Run {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    self.out.push_str(&function::text(&value));
                }
                Node::Set { name, declare, to } => {
                    let value = self.pipeline(to, dot)?;
                    if !declare && !self.variables.contains_key(name) {
                        return Err(format!("there is no variable ${name}"));
                    }
                    self.variables.insert(name.clone(), value);
                }
                Node::If { when, then, otherwise } => {
                    let truth = function::truth(&self.pipeline(when, dot)?);
                    self.nodes(if truth { then } else { otherwise }, dot)?;
                }
                Node::With { value, then, otherwise } => {
                    let value = self.pipeline(value, dot)?;
                    match function::truth(&value) {
                        true => self.nodes(then, &value)?,
                        false => self.nodes(otherwise, dot)?,
                    }
                }
                Node::Range { vars, over, body, otherwise } => {
                    let over = self.pipeline(over, dot)?;
                    self.range(vars, &over, body, otherwise, dot)?;
                }
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        vars: &[String],
        over: &Value,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), String> {
        let items: Vec<(Value, &Value)> = match over {
            Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.into(), v)).collect(),
            Value::Object(map) => map.iter().map(|(k, v)| (k.as_str().into(), v)).collect(),
            Value::Null => vec![],
            _ => return Err("range wants a list or a map".to_owned()),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            match vars {
                [element] => drop(self.variables.insert(element.clone(), item.clone())),
                [index, element] => {
                    self.variables.insert(index.clone(), key);
                    self.variables.insert(element.clone(), item.clone());
                }
                _ => {}
            }
            self.nodes(body, item)?;
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut before: Option<Value> = None;
        for call in pipeline {
            before = Some(match call {
                Call::Value(operand) => self.operand(operand, dot)?,
                Call::Function { name, arguments } => {
                    let mut values =
                        arguments.iter().map(|a| self.operand(a, dot)).collect::<Result<Vec<_>, _>>()?;
                    values.extend(before);
                    function::call(name, &values)?
                }
            });
        }
        Ok(before.unwrap_or(Value::Null))
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Dot(path) => field(dot, path),
            Operand::Variable(name, path) => {
                let value =
                    self.variables.get(name).ok_or_else(|| format!("there is no variable ${name}"))?;
                field(value, path)
            }
            Operand::Nested(pipeline, path) => field(&self.pipeline(pipeline, dot)?, path),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Function(name) => function::call(name, &[]),
        }
    }
}

/// Follows `.A.B`. A name in lower case can only be the key of a map that users fill, such as labels: absent is
/// no value there, as in Go. The names of our own fields start in upper case: absent is a mistake.
fn field(value: &Value, path: &[String]) -> Result<Value, String> {
    let mut value = value;
    for (depth, name) in path.iter().enumerate() {
        let here = || format!(".{}", path[..=depth].join("."));
        let above = || match depth {
            0 => "this".to_owned(),
            _ => format!(".{}", path[..depth].join(".")),
        };
        let of_ours = name.starts_with(|c: char| c.is_uppercase());
        value = match value {
            Value::Object(map) => match map.get(name) {
                Some(value) => value,
                None if !of_ours => return Ok(Value::Null),
                None => return Err(format!("there is no field {}; {}", here(), near(name, map))),
            },
            Value::Null if !of_ours => return Ok(Value::Null),
            Value::Null => return Err(format!("there is no field {}: {} is not set", here(), above())),
            other => {
                let kind = function::kind(other);
                return Err(format!("there is no field {}: {} is a {kind}", here(), above()));
            }
        };
    }
    Ok(value.clone())
}

/// What may have been meant instead of `name`.
fn near(name: &str, map: &serde_json::Map<String, Value>) -> String {
    let low = name.to_lowercase();
    let alike = map.keys().find(|key| {
        let key = key.to_lowercase();
        key == low || key.starts_with(&low) || low.starts_with(&key)
    });
    match alike {
        Some(key) => format!("did you mean .{key}?"),
        None => {
            let all: Vec<String> = map.keys().map(|key| format!(".{key}")).collect();
            format!("there are {}", all.join(" "))
        }
    }
}
