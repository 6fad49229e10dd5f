//! Servers without data of their own.

use bulkhead_tests::World;

use crate::Machine;

#[test]
fn nginx_serves_pages() {
    let world = World::new();
    let machine = Machine::new(&world, "root", "exec nginx -g 'daemon off;'");
    machine.start();
    machine.wait_for("wget -qO- http://localhost/ | grep 'Welcome to nginx'");
    let large = "cd /var/www/html && head -c 3000000 /dev/urandom >large && \
                 wget -qO- http://localhost/large | cmp - large && echo same";
    assert_eq!(machine.run(large), "same");
    machine.end("QUIT");
}
