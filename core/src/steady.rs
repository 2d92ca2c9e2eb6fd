//! Cheaper waiting while plain lines follow each other.
//!
//! A poller that reports a source as long as it has bytes looks at it once more with each wait, and a limit of time is
//! a timer that each wait sets and removes. Here the poller reports new bytes once, which is enough for who reads all
//! there are, and one timer stands for all waits.

use crate::pump::descriptor;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{fstat, FileType};
use rustix::io::{Errno, Result};
use rustix::time::{
    timerfd_create, timerfd_settime, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
};
use std::os::fd::RawFd;

pub struct Steady {
    poller: RawFd,
    sources: [RawFd; 2],
    timer: OwnedFd,
    begun: bool,
}

impl Steady {
    /// None where a source is neither pipe nor socket: a terminal has lines left behind a read that brought less than
    /// it could; or where the system has no timer to give.
    pub fn new(poller: RawFd, sources: [RawFd; 2]) -> Option<Self> {
        for source in sources {
            let kind = FileType::from_raw_mode(fstat(descriptor(source)).ok()?.st_mode);
            if !matches!(kind, FileType::Fifo | FileType::Socket) {
                return None;
            }
        }
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK).ok()?;
        let data = EventData::new_u64(timer.as_raw_fd() as u64);
        epoll::add(descriptor(poller), &timer, data, EventFlags::IN | EventFlags::ET).ok()?;
        Some(Steady { poller, sources, timer, begun: false })
    }

    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// Whether `number` is the timer's: the time is over.
    pub fn is_timer(&self, number: RawFd) -> bool {
        self.timer.as_raw_fd() == number
    }

    /// Report new bytes once, and the end of `milliseconds`. `end` must follow.
    pub fn begin(&mut self, milliseconds: i64) -> Result<()> {
        self.begun = true;
        self.set(milliseconds * 1_000_000)?;
        self.report(EventFlags::IN | EventFlags::ET)
    }

    /// Report each source as long as it has bytes, as before; what was left in one is reported at once.
    pub fn end(&mut self) -> Result<()> {
        if !self.begun {
            return Ok(());
        }
        self.report(EventFlags::IN)?;
        self.set(0)?;
        self.begun = false;
        Ok(())
    }

    fn report(&self, flags: EventFlags) -> Result<()> {
        for source in self.sources {
            let data = EventData::new_u64(source as u64);
            match epoll::modify(descriptor(self.poller), descriptor(source), data, flags) {
                Ok(()) | Err(Errno::NOENT) => {} // Python does not wait for a source that it has taken out
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Let the timer end in so many ns; 0: never.
    fn set(&self, nanoseconds: i64) -> Result<()> {
        let value = Timespec { tv_sec: 0, tv_nsec: nanoseconds };
        let time = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.timer.as_fd(), TimerfdTimerFlags::empty(), &time).map(|_| ())
    }
}
