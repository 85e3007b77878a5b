//! `rcr system`.
