//! Ctrl-C and its kin while an image is pulled: the first asks for a clean end, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::Error;

/// Notes the first signal that asks for an end.
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Starts to listen for SIGINT, SIGTERM and SIGHUP, for the rest of the process's life.
    pub(crate) fn listen() -> Self {
        let interrupt = Self { asked: Arc::default(), signal: Arc::default() };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // None of the three is one that cannot be caught, the only error there is.
            let code = 128 + signal;
            let number = usize::try_from(signal).unwrap_or_default();
            let _ = flag::register_conditional_shutdown(signal, code, Arc::clone(&interrupt.asked));
            let _ = flag::register_usize(signal, Arc::clone(&interrupt.signal), number);
            let _ = flag::register(signal, Arc::clone(&interrupt.asked));
        }
        interrupt
    }

    /// Becomes true with the first signal.
    pub(crate) fn asked(&self) -> &AtomicBool {
        &self.asked
    }

    /// Why a pull failed: the signal if one came, else `error`.
    pub(crate) fn or(&self, error: engine::Error) -> Error {
        match i32::try_from(self.signal.load(Ordering::Relaxed)) {
            Ok(signal) if signal != 0 => Error::Interrupted(signal),
            _ => error.into(),
        }
    }
}
