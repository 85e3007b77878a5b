//! GVariant's text form, in which annotations give values: `uint64 5`, `'inactive-or-failed'`, `[1, 2]`, `@as []`
//! (docs.gtk.org/glib/gvariant-text-format.html). Read is what runc reads: no tuples and no maybe types, which no
//! property of systemd that a container could use has.

use super::literal::Node;
use super::value::{Value, first_type};

/// Deepest nesting of arrays, dictionaries and variants.
const DEEPEST: usize = 32;

/// The value that `text` stands for.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { text, at: 0 };
    let node = parser.node(0)?;
    parser.skip_blanks();
    if parser.at < text.len() {
        return Err(format!("unexpected {:?}", &text[parser.at..]));
    }
    let signature =
        node.infer().ok_or("the type of an empty array is not clear; write for instance @as []")?;
    node.typed(&signature)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn skip_blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_blanks();
        self.text[self.at..].chars().next()
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.peek() {
            Some(c) if c == wanted => {
                self.at += c.len_utf8();
                Ok(())
            }
            Some(other) => Err(format!("unexpected {other:?}, {wanted:?} is missing")),
            None => Err(format!("unexpected end, {wanted:?} is missing")),
        }
    }

    fn word(&mut self, part_of_it: impl Fn(char) -> bool) -> &str {
        let rest = &self.text[self.at..];
        let length = rest.find(|c| !part_of_it(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn node(&mut self, depth: usize) -> Result<Node, String> {
        if depth > DEEPEST {
            return Err(format!("nested deeper than {DEEPEST}"));
        }
        let Some(first) = self.peek() else { return Err("unexpected end".to_owned()) };
        match first {
            '[' => self.list('[', ']', |parser| parser.node(depth + 1)).map(Node::Array),
            '{' => self
                .list('{', '}', |parser| {
                    let key = parser.node(depth + 1)?;
                    parser.expect(':')?;
                    Ok((key, parser.node(depth + 1)?))
                })
                .map(Node::Dictionary),
            '<' => {
                self.at += 1;
                let inner = self.node(depth + 1)?;
                self.expect('>')?;
                Ok(Node::Variant(Box::new(inner)))
            }
            '\'' | '"' => self.string().map(Node::Text),
            'b' if self.text[self.at + 1..].starts_with(['\'', '"']) => {
                self.at += 1;
                self.byte_string().map(Node::Bytes)
            }
            '@' => {
                self.at += 1;
                let signature = self.word(|c| !c.is_whitespace()).to_owned();
                if first_type(&signature) != Some(signature.len()) {
                    return Err(format!("{signature:?} is no type"));
                }
                self.given_type(signature, depth)
            }
            '0'..='9' | '+' | '-' => {
                let word = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)).to_owned();
                Ok(Node::Number(word))
            }
            _ => {
                let word = self.word(|c| c.is_ascii_alphanumeric()).to_owned();
                let signature = match word.as_str() {
                    "true" => return Ok(Node::Bool(true)),
                    "false" => return Ok(Node::Bool(false)),
                    "boolean" => "b",
                    "byte" => "y",
                    "int16" => "n",
                    "uint16" => "q",
                    "int32" => "i",
                    "uint32" => "u",
                    "int64" => "x",
                    "uint64" => "t",
                    "double" => "d",
                    "string" => "s",
                    "objectpath" => "o",
                    "signature" => "g",
                    "" => return Err(format!("unexpected {first:?}")),
                    _ => return Err(format!("unrecognized type {word:?}")),
                };
                self.given_type(signature.to_owned(), depth)
            }
        }
    }

    fn given_type(&mut self, signature: String, depth: usize) -> Result<Node, String> {
        match self.node(depth + 1)? {
            Node::Typed(..) => Err("unexpected type annotation".to_owned()),
            node => Ok(Node::Typed(signature, Box::new(node))),
        }
    }

    fn list<T>(
        &mut self,
        open: char,
        close: char,
        mut item: impl FnMut(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        self.expect(open)?;
        let mut items = Vec::new();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.peek() == Some(',') {
                self.at += 1;
                continue;
            }
            self.expect(close)?;
            return Ok(items);
        }
    }

    /// What stands between quotes, and after which `\` more follows.
    fn quoted(&mut self) -> Result<Vec<(bool, char)>, String> {
        let unterminated = || "unterminated string".to_owned();
        let mut chars = self.text[self.at..].char_indices();
        let (_, quote) = chars.next().ok_or_else(unterminated)?;
        let mut out = Vec::new();
        while let Some((offset, c)) = chars.next() {
            if c == quote {
                self.at += offset + c.len_utf8();
                return Ok(out);
            }
            match c {
                '\\' => out.push((true, chars.next().ok_or_else(unterminated)?.1)),
                c => out.push((false, c)),
            }
        }
        Err(unterminated())
    }

    fn string(&mut self) -> Result<String, String> {
        let chars = self.quoted()?;
        let mut out = String::new();
        let mut rest = chars.iter();
        while let Some((escaped, c)) = rest.next() {
            match (escaped, c) {
                (true, 'u' | 'U') => {
                    let digits: String =
                        rest.by_ref().take(if *c == 'u' { 4 } else { 8 }).map(|(_, c)| *c).collect();
                    let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    out.push(code.ok_or_else(|| format!("{digits:?} is no character"))?);
                }
                (true, '\n') => {}
                (true, c) => out.push(control(*c)),
                (false, c) => out.push(*c),
            }
        }
        if out.contains('\0') {
            return Err("a string with a NUL".to_owned());
        }
        Ok(out)
    }

    /// A NUL is added, as in C.
    fn byte_string(&mut self) -> Result<Vec<u8>, String> {
        let chars = self.quoted()?;
        let mut out = Vec::new();
        let mut rest = chars.iter().peekable();
        while let Some((escaped, c)) = rest.next() {
            match (escaped, c) {
                (true, 'x') => {
                    let digits: String = rest.by_ref().take(2).map(|(_, c)| *c).collect();
                    let byte = u8::from_str_radix(&digits, 16);
                    out.push(byte.map_err(|_| format!("{digits:?} is no byte"))?);
                }
                (true, '0'..='7') => {
                    let mut digits = c.to_string();
                    while let Some((_, digit)) =
                        rest.next_if(|(escaped, c)| !escaped && ('0'..='7').contains(c))
                    {
                        digits.push(*digit);
                        if digits.len() == 3 {
                            break;
                        }
                    }
                    let byte = u8::from_str_radix(&digits, 8);
                    out.push(byte.map_err(|_| format!("{digits:?} is no byte"))?);
                }
                (true, c) => out.extend(control(*c).encode_utf8(&mut [0; 4]).bytes()),
                (false, c) => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        out.push(0);
        Ok(out)
    }
}

/// What a letter after a backslash stands for.
fn control(letter: char) -> char {
    match letter {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<(String, String), String> {
        parse(text).map(|value| (value.signature(), value.to_string()))
    }

    #[test]
    fn values_of_every_type() {
        for (text, signature, value) in [
            ("true", "b", "true"),
            (" false ", "b", "false"),
            ("5", "i", "5"),
            ("-5", "i", "-5"),
            ("0x1f", "i", "31"),
            ("017", "i", "15"),
            ("1.5", "d", "1.5"),
            ("double 2", "d", "2"),
            ("byte 0xff", "y", "255"),
            ("int16 -2", "n", "-2"),
            ("uint16 65535", "q", "65535"),
            ("uint32 4294967295", "u", "4294967295"),
            ("int64 -9223372036854775808", "x", "-9223372036854775808"),
            ("uint64 123456789", "t", "123456789"),
            ("@t 1", "t", "1"),
            ("'inactive-or-failed'", "s", "\"inactive-or-failed\""),
            ("\"it's\"", "s", "\"it's\""),
            (r"'a\n\u00fc\'b'", "s", r#""a\nü'b""#),
            ("objectpath '/org/x_1'", "o", "\"/org/x_1\""),
            ("signature 'a{sv}'", "g", "\"a{sv}\""),
            (r"b'a\x00\101'", "ay", "[97, 0, 65, 0]"),
            ("['a', 'b']", "as", "[\"a\", \"b\"]"),
            ("[1, uint64 2]", "at", "[1, 2]"),
            ("[1, 2.5]", "ad", "[1, 2.5]"),
            ("[[], ['x']]", "aas", "[[], [\"x\"]]"),
            ("@as []", "as", "[]"),
            ("@a{sv} {}", "a{sv}", "[]"),
            ("{'a': <uint32 1>, 'b': <true>}", "a{sv}", "[\"a\": <1>, \"b\": <true>]"),
            ("<['x']>", "v", "<[\"x\"]>"),
        ] {
            assert_eq!(shown(text), Ok((signature.to_owned(), value.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "unexpected end"),
            ("foo", "unrecognized type \"foo\""),
            ("uint64", "unexpected end"),
            ("uint64 -1", "can't parse \"-1\" as type \"t\""),
            ("byte 256", "can't parse \"256\" as type \"y\""),
            ("uint64 1 2", "unexpected \"2\""),
            ("12abc", "can't parse \"12abc\" as type \"i\""),
            ("3000000000", "can't parse \"3000000000\" as type \"i\""),
            ("0x-5", "can't parse \"0x-5\" as type \"i\""),
            ("'x", "unterminated string"),
            ("'x\\", "unterminated string"),
            ("'\\u0000'", "a string with a NUL"),
            ("'\\ud800'", "\"d800\" is no character"),
            ("[1, 'x']", "can't parse \"x\" as type \"i\""),
            ("[1", "unexpected end, ']' is missing"),
            ("[1 2]", "unexpected '2', ']' is missing"),
            ("[]", "the type of an empty array is not clear; write for instance @as []"),
            ("@z 1", "\"z\" is no type"),
            ("uint32 uint64 1", "unexpected type annotation"),
            ("uint64 'x'", "can't parse \"x\" as type \"t\""),
            ("objectpath 'x'", "can't parse \"x\" as type \"o\""),
            ("(1, 2)", "unexpected '('"),
            ("ünix", "unexpected 'ü'"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why, "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).unwrap_err().starts_with("nested deeper"));
        assert!(parse(&"@as ".repeat(100_000)).unwrap_err().starts_with("nested deeper"));
    }
}
