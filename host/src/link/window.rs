//! The bytes between a driver and the operating system: what waits, what may still come, what is to be credited.
//!
//! A byte is *on its way* from the moment it was sent until it was credited. The host counts as the driver does, so
//! one that counts is never refused. Pure: no socket, no lock, no time.

/// A driver sent more than the send window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes were sent where the send window has room for {left}; wait for `sent`")]
pub struct WindowExceeded {
    /// How many were sent.
    pub bytes: usize,
    /// How many more could have been.
    pub left: usize,
}

/// The send window of one stream. Holds at most one and a half times its size.
#[derive(Debug)]
pub(super) struct SendWindow {
    size: u32,
    /// What the writer has not taken yet.
    queue: Vec<u8>,
    /// Sent by this incarnation and not yet credited.
    on_way: usize,
    /// The part of `on_way` that has been written: what can be credited.
    written: usize,
    /// Sent by earlier incarnations and not yet written; written first, credited to nobody.
    inherited: usize,
}

impl SendWindow {
    pub(super) fn new(size: u32) -> Self {
        Self {
            size,
            queue: Vec::new(),
            on_way: 0,
            written: 0,
            inherited: 0,
        }
    }

    /// How many bytes may be on their way at once.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// How many more bytes may be sent now.
    pub(super) fn left(&self) -> usize {
        self.size as usize - self.on_way
    }

    /// Counts bytes as on their way; somebody else holds them.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), WindowExceeded> {
        if bytes > self.left() {
            return Err(WindowExceeded {
                bytes,
                left: self.left(),
            });
        }
        self.on_way += bytes;
        Ok(())
    }

    /// Queues bytes, all or none.
    pub(super) fn push(&mut self, bytes: Vec<u8>) -> Result<(), WindowExceeded> {
        self.count(bytes.len())?;
        if self.queue.is_empty() {
            self.queue = bytes;
        } else {
            self.queue.extend_from_slice(&bytes);
        }
        Ok(())
    }

    /// Takes all that waits to be written.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.queue)
    }

    /// So many bytes of what was taken were written. Says whether a credit is due.
    pub(super) fn wrote(&mut self, bytes: usize) -> bool {
        let inherited = bytes.min(self.inherited);
        self.inherited -= inherited;
        self.written += bytes - inherited;
        self.is_credit_due()
    }

    /// Takes the credit, if at least half of the window can be credited.
    pub(super) fn credit(&mut self) -> Option<u32> {
        self.is_credit_due().then(|| {
            let credit = std::mem::take(&mut self.written);
            self.on_way -= credit;
            u32::try_from(credit).expect("no more is on its way than the window holds")
        })
    }

    /// The whole window to a new incarnation, which knows nothing of what the old one sent. What still waits is
    /// written all the same: it was sent. False, and nothing changed, where that is more than half a window.
    pub(super) fn hand_over(&mut self) -> bool {
        let waiting = self.inherited + self.on_way - self.written;
        if waiting > self.size as usize / 2 {
            return false;
        }
        (self.inherited, self.on_way, self.written) = (waiting, 0, 0);
        true
    }

    fn is_credit_due(&self) -> bool {
        self.written > 0 && self.written >= self.size as usize / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_what_it_says_and_not_a_byte_more() {
        let mut window = SendWindow::new(10);
        assert_eq!(window.push(vec![1; 10]), Ok(()));
        assert_eq!(
            window.push(vec![1]),
            Err(WindowExceeded { bytes: 1, left: 0 })
        );
        assert_eq!(window.push(vec![]), Ok(()));
        assert_eq!(window.take(), vec![1; 10]);
        assert_eq!(
            window.left(),
            0,
            "taken is not written, written is not credited"
        );
        assert!(window.wrote(10));
        assert_eq!(window.left(), 0);
        assert_eq!(window.credit(), Some(10));
        assert_eq!(window.left(), 10);
    }

    #[test]
    fn a_refused_send_leaves_nothing_behind() {
        let mut window = SendWindow::new(4);
        assert!(window.push(vec![1; 5]).is_err());
        assert_eq!((window.take(), window.left()), (vec![], 4));
    }

    #[test]
    fn credits_come_by_the_half_window() {
        let mut window = SendWindow::new(10);
        window.push(vec![0; 4]).unwrap();
        window.take();
        assert!(!window.wrote(4));
        assert_eq!(window.credit(), None);
        window.push(vec![0; 3]).unwrap();
        window.take();
        assert!(window.wrote(1), "half of it is free again");
        assert_eq!(window.credit(), Some(5));
        assert_eq!(window.credit(), None);
        assert_eq!(window.left(), 8);
    }

    #[test]
    fn a_new_incarnation_has_the_whole_window_and_old_bytes_still_leave() {
        let mut window = SendWindow::new(10);
        window.push(vec![1; 9]).unwrap();
        window.take();
        window.wrote(4);
        assert!(window.hand_over(), "5 of 10 wait");
        assert_eq!(window.left(), 10);
        window.push(vec![2; 10]).unwrap();
        assert!(!window.wrote(5), "the old ones, credited to nobody");
        assert!(!window.wrote(4));
        assert!(window.wrote(1));
        assert_eq!(window.credit(), Some(5));
    }

    #[test]
    fn a_stalled_stream_is_not_handed_over() {
        let mut window = SendWindow::new(10);
        window.push(vec![1; 6]).unwrap();
        assert!(!window.hand_over());
        assert_eq!(window.left(), 4);
    }
}
