//! Who stands at the other end of a driver's connections.
//!
//! A peer that has learned answers what a plant's `reply` lines say, and nothing else. How its answers arrive is a shape
//! laid over it: in one piece, byte by byte, cut off, followed by noise.

use super::pattern::{Captures, Pattern};

/// What becomes of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The connection is up at once.
    Up,
    /// Nobody listens there; the host goes on dialling.
    Refused,
    /// Nothing happens until somebody brings the connection up.
    Unanswered,
}

/// What a peer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It sends these bytes, which arrive in one event for each 64 KiB.
    Bytes(Vec<u8>),
    /// It ends the stream.
    HangUp,
}

/// The other end of every connection of a driver.
pub trait Peer {
    /// The driver dials, or the host redials for it.
    fn dialled(&mut self, link: u32) -> Reach;

    /// The driver has sent these bytes.
    fn heard(&mut self, link: u32, bytes: &[u8]) -> Vec<Reaction>;
}

/// Takes calls and says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent(pub Reach);

impl Peer for Silent {
    fn dialled(&mut self, _link: u32) -> Reach {
        self.0
    }

    fn heard(&mut self, _link: u32, _bytes: &[u8]) -> Vec<Reaction> {
        Vec::new()
    }
}

/// One line of what a peer knows.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What it is asked, whole.
    pub question: Pattern,
    /// What it answers.
    pub answer: Pattern,
}

impl Reply {
    /// The answer to these bytes, if they are the question.
    pub fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut captures = Captures::default();
        match self.question.take(bytes, &mut captures) {
            Ok(taken) if taken == bytes.len() => self.answer.render(&captures).ok(),
            Ok(_) | Err(_) => None,
        }
    }
}

/// How an honest answer arrives.
pub type Shape = Box<dyn FnMut(Vec<u8>) -> Vec<Reaction>>;

/// Answers what it has learned, in some shape.
pub struct Learned {
    replies: Vec<Reply>,
    shape: Shape,
}

impl Learned {
    /// Answers as it should.
    pub fn honest(replies: &[Reply]) -> Self {
        Self::shaped(replies, Box::new(|bytes| vec![Reaction::Bytes(bytes)]))
    }

    /// Answers so that it arrives in this shape.
    pub fn shaped(replies: &[Reply], shape: Shape) -> Self {
        Self {
            replies: replies.to_vec(),
            shape,
        }
    }
}

impl Peer for Learned {
    fn dialled(&mut self, _link: u32) -> Reach {
        Reach::Up
    }

    fn heard(&mut self, _link: u32, bytes: &[u8]) -> Vec<Reaction> {
        let mut answers = self.replies.iter().filter_map(|reply| reply.answer(bytes));
        match answers.next() {
            Some(answer) => (self.shape)(answer),
            None => Vec::new(),
        }
    }
}

/// Sends what somebody makes up, whatever it is asked.
pub struct Babbler(pub Shape);

impl Peer for Babbler {
    fn dialled(&mut self, _link: u32) -> Reach {
        Reach::Up
    }

    fn heard(&mut self, _link: u32, bytes: &[u8]) -> Vec<Reaction> {
        (self.0)(bytes.to_vec())
    }
}
