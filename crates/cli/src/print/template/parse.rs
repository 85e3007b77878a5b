//! Tokens into a tree.

use super::function;
use super::lex::{Piece, Token, pieces};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    /// `{{$x := …}}` and `{{$x = …}}`.
    Set {
        name: String,
        declare: bool,
        to: Pipeline,
    },
    If {
        when: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// `vars` has no, one (the element) or two (key, element) names.
    Range {
        vars: Vec<String>,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// Calls, each of which gets the value before it as its last argument.
pub(super) type Pipeline = Vec<Call>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    Value(Operand),
    Function { name: String, arguments: Vec<Operand> },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Dot(Vec<String>),
    Variable(String, Vec<String>),
    Nested(Pipeline, Vec<String>),
    Literal(serde_json::Value),
    /// A function without arguments among those of another.
    Function(String),
}

/// Reads a whole template.
pub(super) fn parse(template: &str) -> Result<Vec<Node>, String> {
    let mut pieces = pieces(template)?.into_iter();
    match block(&mut pieces)? {
        (nodes, Stop::Template) => Ok(nodes),
        (_, end) => Err(format!("{{{{{}}}}} without {{{{if}}}}, {{{{range}}}} or {{{{with}}}}", end.name())),
    }
}

/// What ended a run of nodes.
#[derive(PartialEq)]
enum Stop {
    Template,
    End,
    Else(Vec<Token>),
}

impl Stop {
    fn name(&self) -> &'static str {
        match self {
            Self::Template => "",
            Self::End => "end",
            Self::Else(_) => "else",
        }
    }
}

fn block(pieces: &mut std::vec::IntoIter<Piece>) -> Result<(Vec<Node>, Stop), String> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let keyword = match &tokens[0] {
            Token::Word(word) => word.as_str(),
            _ => "",
        };
        match keyword {
            "end" => return Ok((nodes, Stop::End)),
            "else" => return Ok((nodes, Stop::Else(tokens[1..].to_vec()))),
            "if" | "with" | "range" => nodes.push(branch(keyword, &tokens[1..], pieces)?),
            "template" | "define" | "block" | "break" | "continue" => {
                return Err(format!("{{{{{keyword}}}}} is not supported"));
            }
            _ => nodes.push(match &tokens[..] {
                [Token::Variable(name), set @ (Token::Declare | Token::Assign), value @ ..] => {
                    Node::Set { name: name.clone(), declare: *set == Token::Declare, to: pipeline(value)? }
                }
                all => Node::Print(pipeline(all)?),
            }),
        }
    }
    Ok((nodes, Stop::Template))
}

fn branch(keyword: &str, head: &[Token], pieces: &mut std::vec::IntoIter<Piece>) -> Result<Node, String> {
    let (vars, head) = match head {
        [Token::Variable(k), Token::Comma, Token::Variable(v), Token::Declare, rest @ ..] => {
            (vec![k.clone(), v.clone()], rest)
        }
        [Token::Variable(v), Token::Declare, rest @ ..] => (vec![v.clone()], rest),
        all => (vec![], all),
    };
    if !vars.is_empty() && keyword != "range" {
        return Err(format!("{{{{{keyword} $x := …}}}} is not supported"));
    }
    let value = pipeline(head)?;
    let unclosed = || format!("{{{{{keyword}}}}} has no {{{{end}}}}");
    let (then, end) = block(pieces)?;
    let otherwise = match end {
        Stop::End => vec![],
        Stop::Template => return Err(unclosed()),
        Stop::Else(tokens) => match &tokens[..] {
            [] => match block(pieces)? {
                (nodes, Stop::End) => nodes,
                (_, Stop::Template) => return Err(unclosed()),
                (_, Stop::Else(_)) => return Err(format!("{{{{else}}}} without {{{{{keyword}}}}}")),
            },
            // `else if` shares the `end` of its `if`.
            [Token::Word(word), rest @ ..] if word == "if" || word == "with" => {
                vec![branch(word, rest, pieces)?]
            }
            _ => return Err("{{else}} wants nothing, if or with after it".to_owned()),
        },
    };
    Ok(match keyword {
        "if" => Node::If { when: value, then, otherwise },
        "with" => Node::With { value, then, otherwise },
        _ => Node::Range { vars, over: value, body: then, otherwise },
    })
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, String> {
    let mut calls = Vec::new();
    let mut depth = 0usize;
    let by_pipe = tokens.split(|token| {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && *token == Token::Pipe
    });
    for (index, part) in by_pipe.enumerate() {
        calls.push(call(part, index > 0)?);
    }
    Ok(calls)
}

fn call(tokens: &[Token], piped: bool) -> Result<Call, String> {
    if tokens.is_empty() {
        return Err(if piped { "there is nothing after |" } else { "a value is missing" }.to_owned());
    }
    let mut operands = Vec::new();
    let mut rest = tokens;
    while !rest.is_empty() {
        let (operand, after) = operand(rest)?;
        operands.push(operand);
        rest = after;
    }
    let first = operands.remove(0);
    match first {
        Operand::Function(name) => Ok(Call::Function { name, arguments: operands }),
        value if operands.is_empty() && !piped => Ok(Call::Value(value)),
        // docker's one method: `{{.Label "KEY"}}`.
        Operand::Dot(path) if path == ["Label"] && operands.len() == 1 => Ok(Call::Function {
            name: "Label".to_owned(),
            arguments: [vec![Operand::Dot(path)], operands].concat(),
        }),
        _ => Err("a value with arguments, or after |, is not a function".to_owned()),
    }
}

fn operand(tokens: &[Token]) -> Result<(Operand, &[Token]), String> {
    let glued = |rest: &[Token]| match rest.first() {
        Some(Token::Fields { path, glued: true }) => path.clone(),
        _ => vec![],
    };
    let (first, rest) = tokens.split_first().ok_or("a value is missing")?;
    let operand = match first {
        Token::Fields { path, .. } => Operand::Dot(path.clone()),
        Token::Text(text) => Operand::Literal(text.as_str().into()),
        Token::Number(number) => Operand::Literal(literal(number)?),
        Token::Word(word) => match word.as_str() {
            "true" => Operand::Literal(true.into()),
            "false" => Operand::Literal(false.into()),
            "nil" => Operand::Literal(serde_json::Value::Null),
            name if function::NAMES.contains(&name) => Operand::Function(word.clone()),
            name => {
                return Err(format!(
                    "there is no function {name:?}; there are {}",
                    function::NAMES.join(" ")
                ));
            }
        },
        Token::Variable(name) => {
            let path = glued(rest);
            let used = usize::from(!path.is_empty());
            return Ok((Operand::Variable(name.clone(), path), &rest[used..]));
        }
        Token::Open => {
            let mut depth = 1usize;
            let end = rest.iter().position(|token| {
                match token {
                    Token::Open => depth += 1,
                    Token::Close => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            let end = end.ok_or("a parenthesis is not closed")?;
            let after = &rest[end + 1..];
            let path = glued(after);
            let used = usize::from(!path.is_empty());
            return Ok((Operand::Nested(pipeline(&rest[..end])?, path), &after[used..]));
        }
        other => return Err(format!("{other:?} stands where a value should")),
    };
    Ok((operand, rest))
}

fn literal(number: &str) -> Result<serde_json::Value, String> {
    if let Ok(whole) = number.parse::<i64>() {
        return Ok(whole.into());
    }
    let real = number.parse::<f64>().ok().filter(|n| n.is_finite());
    real.map(Into::into).ok_or_else(|| format!("{number:?} is not a number"))
}
