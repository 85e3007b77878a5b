//! Other people's firewalls that drop whatever they do not know: a policy of DROP at the forward hook, as docker sets it.
//!
//! A packet has to pass every table, so that our own rules cannot let through what another one drops. Two rules for each of
//! our bridges are put at the head of such a chain, under a comment of ours, and taken away with the bridge. Nothing else
//! of it is touched.

use crate::nft::NftError;
use crate::nft::{Batch, Expression as E, Family, Field, FoundChain, Hook, Nftables, Op, Verdict};

const FAMILIES: [Family; 3] = [Family::Inet, Family::Ip, Family::Ip6];

/// Lets the bridge `link` through every chain of others that drops by default; `own` is the name of our table. Tells in
/// which chains something had to be added.
///
/// # Errors
/// The kernel's.
pub fn open_for(own: &str, link: &str) -> Result<Vec<String>, NftError> {
    let nft = Nftables::open()?;
    let comment = comment(own, link);
    let mut opened = Vec::new();
    for family in FAMILIES {
        for chain in dropping(&nft, family, own)? {
            let rules = nft.rules(family, &chain.table, &chain.name)?;
            if rules.iter().any(|rule| rule.comment == comment) {
                continue;
            }
            let mut batch = Batch::default();
            for field in [Field::OutputName, Field::InputName] {
                // What comes in for a bridge was let in by our own rules, or is dropped by them.
                let mut rule = E::link(field, Op::Equal, link).to_vec();
                rule.extend([E::Counter, E::Verdict(Verdict::Accept)]);
                batch.add_rule(family, (&chain.table, &chain.name), true, &rule, &comment);
            }
            nft.commit(&batch)?;
            opened.push(format!("{} {}", chain.table, chain.name));
        }
    }
    Ok(opened)
}

/// Takes away what [`open_for`] put into others' chains, also where the policy is another one by now.
///
/// # Errors
/// The kernel's.
pub fn close_for(own: &str, link: &str) -> Result<(), NftError> {
    let nft = Nftables::open()?;
    let comment = comment(own, link);
    for family in FAMILIES {
        for chain in nft.chains(family)?.into_iter().filter(|chain| is_forward(chain, own)) {
            for rule in nft.rules(family, &chain.table, &chain.name)? {
                if rule.comment == comment {
                    let mut batch = Batch::default();
                    batch.delete_rule(family, &chain.table, &chain.name, rule.handle);
                    nft.commit(&batch)?;
                }
            }
        }
    }
    Ok(())
}

fn dropping(nft: &Nftables, family: Family, own: &str) -> Result<Vec<FoundChain>, NftError> {
    const DROP: u32 = 0;
    let mut chains = nft.chains(family)?;
    chains.retain(|chain| is_forward(chain, own) && chain.policy == Some(DROP));
    Ok(chains)
}

fn is_forward(chain: &FoundChain, own: &str) -> bool {
    chain.hook == Some(Hook::Forward as u32) && chain.table != own
}

fn comment(own: &str, link: &str) -> String {
    format!("{own}: {link}")
}
