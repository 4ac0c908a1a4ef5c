//! Responses to the calls that plugins make in unit tests.

use crate::{Call, CallResponse};
use std::cell::RefCell;

type CallHandler = Box<dyn FnMut(&Call) -> CallResponse>;

thread_local! {
    static ANSWER: RefCell<Option<CallHandler>> = const { RefCell::new(None) };
}

/// From now on, `answer` answers calls by hooks on this thread, and nothing is sent.
pub fn answer_calls(answer: impl FnMut(&Call) -> CallResponse + 'static) {
    ANSWER.set(Some(Box::new(answer)));
}

/// The response to `call`; `None` if no answers have been set.
pub(crate) fn answer_to(call: &Call) -> Option<CallResponse> {
    ANSWER.with_borrow_mut(|answer| answer.as_mut().map(|answer| answer(call)))
}
