//! Answers that nobody should believe (RELIABILITY D7).

use std::net::{Ipv4Addr, SocketAddr};

use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use tokio::net::UdpSocket;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// Of another question's id.
    Id,
    /// About another name.
    Question,
    /// From another port.
    Source,
    /// Not from the id on: nothing but chance.
    Noise,
    /// The right id, and nothing behind it that could be read.
    Rest,
    /// The right head and question, and records that end nowhere.
    CutOff,
    /// More than was said to fit.
    Oversized,
    /// A name that points at itself.
    Loop,
}

impl Forgery {
    /// Those that show by themselves that they are no answer; the true one may still come.
    pub const IGNORED: [Self; 4] = [Self::Id, Self::Question, Self::Source, Self::Noise];
    /// Those that come from the server that was asked, in answer to what it was asked.
    pub const FAILURES: [Self; 4] = [Self::Rest, Self::CutOff, Self::Oversized, Self::Loop];

    /// Whether nothing else is said.
    pub fn is_the_answer(self) -> bool {
        Self::FAILURES.contains(&self)
    }

    /// Sends it to where the question came from.
    pub async fn send(self, socket: &UdpSocket, to: SocketAddr, mut lie: Message) {
        let truth = lie.queries[0].clone();
        match self {
            Self::Id => lie.metadata.id ^= 1,
            Self::Question => {
                let other = Name::from_ascii("other.test.internal.").unwrap();
                lie.queries[0].set_name(other);
            }
            _ => {}
        }
        let mut bytes = lie.to_vec().unwrap();
        match self {
            Self::Id | Self::Question | Self::Source => {}
            Self::Noise => bytes.iter_mut().for_each(|byte| *byte = fastrand::u8(..)),
            Self::Rest => bytes[12..].fill(0xff),
            Self::CutOff => bytes.truncate(bytes.len() - 3),
            Self::Oversized => {
                let record = lie.answers[0].clone();
                lie.answers.extend(std::iter::repeat_n(record, 200));
                bytes = lie.to_vec().unwrap();
                assert!(bytes.len() > 4096);
            }
            Self::Loop => {
                // The name of the first record, behind the question, becomes a pointer to itself.
                let at = 12 + truth.name().len() + 4;
                let pointer = 0xc000 | u16::try_from(at).unwrap();
                bytes[at..at + 2].copy_from_slice(&pointer.to_be_bytes());
            }
        }
        if self == Self::Source {
            let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let _ = stranger.send_to(&bytes, to).await;
        } else {
            let _ = socket.send_to(&bytes, to).await;
        }
    }
}
