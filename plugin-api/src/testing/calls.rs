//! Answers to the calls that plugins make in unit tests.

use crate::{Call, CallResponse};
use std::cell::RefCell;

type Answer = Box<dyn FnMut(&Call) -> CallResponse>;

thread_local! {
    static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
}

/// From now on calls that hooks make on this thread are answered by `answer`, and go nowhere.
pub fn answer_calls(answer: impl FnMut(&Call) -> CallResponse + 'static) {
    ANSWER.set(Some(Box::new(answer)));
}

/// The answer to `call`; none if nobody answers calls here.
pub(crate) fn answer_to(call: &Call) -> Option<CallResponse> {
    ANSWER.with_borrow_mut(|answer| answer.as_mut().map(|answer| answer(call)))
}
