//! Nobody may understand a request, or an answer, otherwise than the sidecar did.
//!
//! [`catalogue`] has every malformed request and what is answered; [`accepted`] those that look
//! doubtful and are served. They are sent alone, behind and before others, in pieces cut at every
//! byte, and mixed at random, to a sidecar before a [`recorder`], a backend that keeps every byte.
//! Then two strict parsers of others read what was kept ([`oracle`]) and must find exactly the
//! requests that were answered ([`world`]). [`answers`] is the same the other way round:
//! [`liar`] is a backend with a table of bad answers.

mod accepted;
mod answers;
mod case;
mod catalogue;
mod framing;
mod liar;
mod mixed;
mod oracle;
mod pieces;
mod recorder;
mod whole;
mod world;
