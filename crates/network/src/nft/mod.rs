//! nf_tables by netlink: tables, chains, rules and maps as messages (linux/netfilter/nf_tables.h).
//!
//! Owns the encoding and the batch in which changes take effect together or not at all. Which rules there are is
//! [`crate::rules`]'s business.

mod expression;

use std::io;

use sys::netlink::{Body, Request, Socket, attribute, attributes, text};

pub(crate) use expression::{Expression, Field, Op, REGISTER, Verdict};

/// NETLINK_NETFILTER of linux/netlink.h.
const NETLINK_NETFILTER: i32 = 12;
/// NFNL_SUBSYS_NFTABLES of linux/netfilter/nfnetlink.h.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const NEWRULE: u16 = 6;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_APPEND: u16 = 0x800;
const NLM_F_DUMP: i32 = 0x300;

/// An element of a list: rule expressions, set elements.
const LIST_ELEM: u16 = 1;

/// Which packets a table sees (linux/netfilter.h, `NFPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// IPv6.
    Ip6 = 10,
}

/// Where packets meet a base chain (linux/netfilter.h, `NF_INET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Hook {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A chain; one without a hook is only jumped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    /// `nat` or `filter`, the hook, and its place among the hook's chains, lowest first.
    pub(crate) base: Option<(&'static str, Hook, i32)>,
}

/// A map from concatenated fields to concatenated fields. Its types are for whoever lists it: the kernel knows lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Field],
    pub(crate) data: &'static [Field],
}

/// An element of a [`Map`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    /// Fields, each filled up to a multiple of four bytes.
    pub(crate) key: Vec<u8>,
    /// As the key; empty when only the key is meant.
    pub(crate) data: Vec<u8>,
    /// Shown by `nft list`.
    pub(crate) comment: String,
}

/// A rule of some table, as far as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundRule {
    pub(crate) handle: u64,
    pub(crate) comment: String,
}

/// A base chain of some table, as far as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundChain {
    pub(crate) table: String,
    pub(crate) name: String,
    pub(crate) hook: Option<u32>,
    /// What happens to packets that no rule settled: 0 is drop.
    pub(crate) policy: Option<u32>,
}

/// Changes that take effect together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    requests: Vec<Request>,
    /// What each of them is, for the error.
    words: Vec<String>,
}

/// Why a batch was refused.
#[derive(Debug, thiserror::Error)]
#[error("nftables: {what}")]
pub struct NftError {
    /// The request that the kernel refused, or its whole.
    what: String,
    /// The kernel's errno.
    #[source]
    source: io::Error,
}

impl NftError {
    /// The kernel's errno.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// The rules of this network namespace.
#[derive(Debug)]
pub(crate) struct Nftables {
    socket: Socket,
}

impl Nftables {
    pub(crate) fn open() -> Result<Nftables, NftError> {
        let fail = |source| NftError { what: "open (does the kernel have nf_tables?)".to_owned(), source };
        Ok(Nftables { socket: Socket::open(NETLINK_NETFILTER).map_err(fail)? })
    }

    /// Makes all changes of a batch, or none.
    pub(crate) fn commit(&self, batch: &Batch) -> Result<(), NftError> {
        if batch.requests.is_empty() {
            return Ok(());
        }
        let frame =
            |kind| Request { kind, flags: 0, body: Body::new(&[0, 0, 0, SUBSYSTEM.to_be_bytes()[1]]) };
        self.socket.batch(&frame(BATCH_BEGIN), &batch.requests, &frame(BATCH_END)).map_err(|(at, source)| {
            let what = at.and_then(|at| batch.words.get(at)).map_or("commit", String::as_str).to_owned();
            NftError { what, source }
        })
    }

    /// All chains of a family.
    pub(crate) fn chains(&self, family: Family) -> Result<Vec<FoundChain>, NftError> {
        let mut found = Vec::new();
        self.list(GETCHAIN, header(family), "list the chains", &mut |payload| {
            let rest = payload.get(4..).unwrap_or_default();
            let number = |kind| attribute(rest, kind).and_then(be32);
            let hook = attribute(rest, 4).and_then(|hook| attribute(hook, 1)).and_then(be32);
            found.push(FoundChain {
                table: attribute(rest, 1).map(text).unwrap_or_default(),
                name: attribute(rest, 3).map(text).unwrap_or_default(),
                hook,
                policy: number(5),
            });
        })?;
        Ok(found)
    }

    /// The rules of one chain, in order.
    pub(crate) fn rules(&self, family: Family, table: &str, chain: &str) -> Result<Vec<FoundRule>, NftError> {
        let mut body = header(family);
        body.put_text(1, table).put_text(2, chain);
        let mut found = Vec::new();
        self.list(
            GETRULE,
            body,
            &format!("list the rules of chain {chain} in table {table}"),
            &mut |payload| {
                let rest = payload.get(4..).unwrap_or_default();
                // Kernels before 5.?? list the whole table.
                let of = (attribute(rest, 1).map(text), attribute(rest, 2).map(text));
                if of == (Some(table.to_owned()), Some(chain.to_owned())) {
                    let handle = attribute(rest, 3).and_then(|value| value.first_chunk().copied());
                    found.push(FoundRule {
                        handle: handle.map_or(0, u64::from_be_bytes),
                        comment: attribute(rest, 7).map(comment).unwrap_or_default(),
                    });
                }
            },
        )?;
        Ok(found)
    }

    /// The elements of a map; none if there is no such table.
    pub(crate) fn elements(&self, family: Family, table: &str, map: &str) -> Result<Vec<Element>, NftError> {
        let mut body = header(family);
        body.put_text(1, table).put_text(2, map);
        let mut found = Vec::new();
        let listed =
            self.list(GETSETELEM, body, &format!("list map {map} of table {table}"), &mut |payload| {
                let list = attribute(payload.get(4..).unwrap_or_default(), 3).unwrap_or_default();
                for (_, element) in attributes(list) {
                    let value = |kind| {
                        attribute(element, kind)
                            .and_then(|data| attribute(data, 1))
                            .unwrap_or_default()
                            .to_vec()
                    };
                    let comment = attribute(element, 6).map(comment).unwrap_or_default();
                    found.push(Element { key: value(1), data: value(2), comment });
                }
            });
        match listed {
            Err(e) if e.raw_os_error() == Some(nix::libc::ENOENT) => Ok(Vec::new()),
            other => other.map(|()| found),
        }
    }

    fn list(&self, kind: u16, body: Body, what: &str, each: &mut dyn FnMut(&[u8])) -> Result<(), NftError> {
        let kind = SUBSYSTEM << 8 | kind;
        let asked = self.socket.ask(kind, NLM_F_DUMP, body, &mut |_, payload| each(payload));
        asked.map_err(|source| NftError { what: what.to_owned(), source })
    }
}

impl Batch {
    fn push(&mut self, kind: u16, flags: u16, body: Body, words: String) {
        self.requests.push(Request { kind: SUBSYSTEM << 8 | kind, flags, body });
        self.words.push(words);
    }

    /// A table; it may exist.
    pub(crate) fn add_table(&mut self, family: Family, table: &str) {
        let mut body = header(family);
        body.put_text(1, table);
        self.push(NEWTABLE, NLM_F_CREATE, body, format!("add table {table}"));
    }

    /// A table with all that is in it; it must exist.
    pub(crate) fn delete_table(&mut self, family: Family, table: &str) {
        let mut body = header(family);
        body.put_text(1, table);
        self.push(DELTABLE, 0, body, format!("delete table {table}"));
    }

    /// A chain; it may exist.
    pub(crate) fn add_chain(&mut self, family: Family, table: &str, chain: &Chain) {
        let mut body = header(family);
        body.put_text(1, table).put_text(3, chain.name);
        if let Some((kind, hook, priority)) = chain.base {
            let mut place = Body::default();
            place.put(1, &(hook as u32).to_be_bytes()).put(2, &priority.to_be_bytes());
            body.put_nested(4, &place).put_text(7, kind);
        }
        self.push(NEWCHAIN, NLM_F_CREATE, body, format!("add chain {} to table {table}", chain.name));
    }

    /// Empties a chain.
    pub(crate) fn flush_chain(&mut self, family: Family, table: &str, chain: &str) {
        let mut body = header(family);
        body.put_text(1, table).put_text(2, chain);
        self.push(DELRULE, 0, body, format!("flush chain {chain} of table {table}"));
    }

    /// A rule at the end of a chain, or at its beginning.
    pub(crate) fn add_rule(
        &mut self,
        family: Family,
        (table, chain): (&str, &str),
        first: bool,
        rule: &[Expression],
        comment: &str,
    ) {
        let mut list = Body::default();
        for expression in rule {
            list.put_nested(LIST_ELEM, &expression.encode());
        }
        let mut body = header(family);
        body.put_text(1, table).put_text(2, chain).put_nested(4, &list);
        if !comment.is_empty() {
            body.put(7, &user_data(comment));
        }
        let flags = NLM_F_CREATE | if first { 0 } else { NLM_F_APPEND };
        self.push(NEWRULE, flags, body, format!("add a rule to chain {chain} of table {table}"));
    }

    /// Deletes a rule that [`Nftables::rules`] found.
    pub(crate) fn delete_rule(&mut self, family: Family, table: &str, chain: &str, handle: u64) {
        let mut body = header(family);
        body.put_text(1, table).put_text(2, chain).put(3, &handle.to_be_bytes());
        self.push(DELRULE, 0, body, format!("delete a rule of chain {chain} of table {table}"));
    }

    /// A map; it may exist.
    pub(crate) fn add_map(&mut self, family: Family, table: &str, map: &Map) {
        const IS_MAP: u32 = 8;
        let mut body = header(family);
        body.put_text(1, table).put_text(2, map.name);
        let shape = |fields: &[Field]| {
            let kind = fields.iter().fold(0, |kind, field| kind << 6 | field.shown_as());
            let length: u32 = fields.iter().map(|field| field.room()).sum();
            (kind, length)
        };
        let ((key, key_length), (data, data_length)) = (shape(map.key), shape(map.data));
        // The number stands for the map within this batch only.
        let id = u32::try_from(self.requests.len()).unwrap_or(0) + 1;
        let numbers = [(3, IS_MAP), (4, key), (5, key_length), (6, data), (7, data_length), (10, id)];
        for (kind, number) in numbers {
            body.put(kind, &u32::to_be_bytes(number));
        }
        self.push(NEWSET, NLM_F_CREATE, body, format!("add map {} to table {table}", map.name));
    }

    /// Elements of a map; EEXIST if one with the same key and other data is there.
    pub(crate) fn add_elements(&mut self, family: Family, table: &str, map: &str, elements: &[Element]) {
        let words = format!("add to map {map} of table {table}");
        self.push(NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, elements_body(family, table, map, elements), words);
    }

    /// Takes elements out of a map; ENOENT if one is not there.
    pub(crate) fn delete_elements(&mut self, family: Family, table: &str, map: &str, elements: &[Element]) {
        let words = format!("delete from map {map} of table {table}");
        self.push(DELSETELEM, 0, elements_body(family, table, map, elements), words);
    }
}

fn elements_body(family: Family, table: &str, map: &str, elements: &[Element]) -> Body {
    let mut list = Body::default();
    for element in elements {
        let mut one = Body::default();
        for (kind, value) in [(1, &element.key), (2, &element.data)] {
            if !value.is_empty() {
                let mut data = Body::default();
                data.put(1, value);
                one.put_nested(kind, &data);
            }
        }
        if !element.comment.is_empty() {
            one.put(6, &user_data(&element.comment));
        }
        list.put_nested(LIST_ELEM, &one);
    }
    let mut body = header(family);
    body.put_text(1, table).put_text(2, map).put_nested(3, &list);
    body
}

/// struct nfgenmsg.
fn header(family: Family) -> Body {
    Body::new(&[family as u8, 0, 0, 0])
}

fn be32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A comment as nft(8) keeps it in user data: kind 0, length, text with a NUL.
fn user_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(250)];
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[0, length], text, &[0]].concat()
}

fn comment(user_data: &[u8]) -> String {
    match user_data {
        [0, _, rest @ ..] => text(rest),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_survive_user_data() {
        assert_eq!(comment(&user_data("rcr web")), "rcr web");
        assert_eq!(comment(&[]), "");
        assert_eq!(comment(&user_data(&"x".repeat(300))).len(), 250);
    }
}
