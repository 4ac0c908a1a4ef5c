//! Without interception there is nothing to decide, and tunnels work as ever.

use crate::support::{Origin, Proxy};

#[test]
fn a_tunnel_carries_its_bytes_unchanged() {
    let origin = Origin::echoing();
    let proxy = Proxy::command()
        .plugin("tls_intercept_conditionally", "TlsInterceptConditionally")
        .plugin_config(r#"TlsInterceptConditionally.exclude=["127.0.0.1"]"#)
        .start();
    let mut client = proxy.tunnel(&origin);
    client.send("through the tunnel");
    assert_eq!(client.read_exact(18), b"through the tunnel");
}
