//! A template as text and tokens.

/// A run of text or the tokens of one `{{…}}`.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.` alone or `.A.B`: the names; with `glued` when it follows a `)` or a variable without a space.
    Fields {
        path: Vec<String>,
        glued: bool,
    },
    /// `$` (an empty name) or `$name`.
    Variable(String),
    /// A function or keyword.
    Word(String),
    Text(String),
    Number(String),
    Pipe,
    Open,
    Close,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// Cuts a template at its actions. Comments vanish, `{{-` and `-}}` trim the text beside them.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut trim_next = false;
    loop {
        let (text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        let text = if trim_next { text.trim_start() } else { text };
        let trim_this = action.is_some_and(|a| a.starts_with('-') && a[1..].starts_with(char::is_whitespace));
        let text = if trim_this { text.trim_end() } else { text };
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let Some(action) = action else { return Ok(pieces) };
        let action = if trim_this { action[1..].trim_start() } else { action };
        let after = if let Some(comment) = action.strip_prefix("/*") {
            let (_, after) = comment.split_once("*/").ok_or("a comment {{/* is not closed")?;
            after
        } else {
            let (tokens, after) = tokens(action)?;
            if tokens.is_empty() {
                return Err("an action {{}} is empty".to_owned());
            }
            pieces.push(Piece::Action(tokens));
            after
        };
        (rest, trim_next) = close(after).ok_or("a comment wants }} right after */")?;
    }
}

/// The text after `}}` or ` -}}`, and whether it is to be trimmed.
fn close(text: &str) -> Option<(&str, bool)> {
    match text.strip_prefix("}}") {
        Some(rest) => Some((rest, false)),
        None => Some((text.trim_start().strip_prefix("-}}")?, true)),
    }
}

/// The tokens up to the end of the action, and the text from its closing braces on.
fn tokens(action: &str) -> Result<(Vec<Token>, &str), String> {
    let mut tokens = Vec::new();
    let mut rest = action;
    loop {
        let trimmed = rest.trim_start();
        let glued =
            trimmed.len() == rest.len() && matches!(tokens.last(), Some(Token::Close | Token::Variable(_)));
        if trimmed.starts_with("}}") || (trimmed.len() < rest.len() && trimmed.starts_with("-}}")) {
            return Ok((tokens, if trimmed.starts_with("}}") { trimmed } else { rest }));
        }
        let Some(first) = trimmed.chars().next() else {
            return Err(format!("the action {{{{{} is not closed with }}}}", action.trim_end()));
        };
        let (token, after) = match first {
            '|' => (Token::Pipe, &trimmed[1..]),
            '(' => (Token::Open, &trimmed[1..]),
            ')' => (Token::Close, &trimmed[1..]),
            ',' => (Token::Comma, &trimmed[1..]),
            '=' => (Token::Assign, &trimmed[1..]),
            ':' if trimmed.starts_with(":=") => (Token::Declare, &trimmed[2..]),
            '"' | '`' => string(trimmed)?,
            '.' if !trimmed[1..].starts_with(|c: char| c.is_ascii_digit()) => fields(trimmed, glued),
            '$' => {
                let (name, after) = word(&trimmed[1..]);
                (Token::Variable(name.to_owned()), after)
            }
            '0'..='9' | '-' | '+' | '.' => {
                let end = trimmed[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
                let (number, after) = trimmed.split_at(end.map_or(trimmed.len(), |end| end + 1));
                (Token::Number(number.to_owned()), after)
            }
            c if c.is_alphabetic() || c == '_' => {
                let (name, after) = word(trimmed);
                (Token::Word(name.to_owned()), after)
            }
            other => return Err(format!("{other:?} does not belong into an action")),
        };
        tokens.push(token);
        rest = after;
    }
}

fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

fn fields(text: &str, glued: bool) -> (Token, &str) {
    let mut path = Vec::new();
    let mut rest = text;
    while let Some(after_dot) = rest.strip_prefix('.') {
        let (name, after) = word(after_dot);
        if name.is_empty() {
            rest = if path.is_empty() { after_dot } else { rest };
            break;
        }
        path.push(name.to_owned());
        rest = after;
    }
    (Token::Fields { path, glued }, rest)
}

/// A string in double quotes, with Go's common escapes, or raw between back quotes.
fn string(text: &str) -> Result<(Token, &str), String> {
    let unclosed = || "a string in an action is not closed".to_owned();
    if let Some(raw) = text.strip_prefix('`') {
        let (inner, after) = raw.split_once('`').ok_or_else(unclosed)?;
        return Ok((Token::Text(inner.to_owned()), after));
    }
    let mut inner = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(inner), &text[at + 1..])),
            '\\' => match chars.next().ok_or_else(unclosed)?.1 {
                'n' => inner.push('\n'),
                't' => inner.push('\t'),
                'r' => inner.push('\r'),
                c @ ('"' | '\\') => inner.push(c),
                other => return Err(format!("the escape \\{other} is not supported")),
            },
            c => inner.push(c),
        }
    }
    Err(unclosed())
}
