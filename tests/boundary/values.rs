//! State of plugins per exchange and connection: created by `Default`, once, or not at all.

use crate::support::{OK, Origin, Proxy, get};

#[test]
fn a_type_without_values_fails_its_exchange_and_is_named() {
    for (plugin, made) in [("NoConnection", "connection state"), ("NoState", "state")] {
        let proxy = Proxy::command().plugin("hostile", plugin).start();
        for _ in 0..2 {
            let origin = Origin::answering(OK);
            let answer = proxy.get(&origin, "/");
            assert_eq!(answer.status(), 500, "{plugin}");
            origin.assert_untouched();
        }
        let line = proxy.wait_for_line(&format!("panicked while creating its {made}: "));
        assert!(line.contains("there is no value of this type"), "{line}");
        assert!(line.contains(plugin), "{line}");
    }
}

#[test]
fn a_value_without_a_size_is_made_once_and_dropped_once() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command().plugin("hostile", "CountsValues").start();
    let url = get(&origin, "/");
    let (mut first, mut second) = (proxy.client(), proxy.client());
    first.ask(&url);
    proxy.wait_for_line("connections 1 states 1 drops 0");
    first.ask(&url);
    proxy.wait_for_line("connections 1 states 2 drops 1");
    second.ask(&url);
    proxy.wait_for_line("connections 2 states 3 drops 2");
}
