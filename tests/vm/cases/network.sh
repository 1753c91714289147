# as: root
# Private networks on Linux 6.1: before 6.10, an empty nftables transaction is not acknowledged.

the_first_private_network_after_boot() {
    nft delete table inet garth 2>/dev/null || true
    garth wrap --network private -- true
    contains "$(garth doctor || true)" 'nftables'
    lacks "$(garth doctor | grep nftables || true)" missing
}

a_published_port_answers() {
    garth wrap -d --name web -p 8080:80 -p 10.0.2.15:8081:80 --rw /var/log/nginx --rw /var/lib/nginx -- nginx -g 'daemon off;'
    eventually curl -sf http://127.0.0.1:8080/
    contains "$(curl -s http://127.0.0.1:8080/)" nginx
    contains "$(curl -s http://10.0.2.15:8081/)" nginx
    garth kill web
    eventually is_gone web
}

a_flushed_ruleset_is_told_and_comes_back() {
    garth wrap -d --name web -p 8080:80 -- busybox httpd -f -p 80 -h /etc
    eventually curl -sf http://127.0.0.1:8080/hostname
    nft flush ruleset
    say "after nft flush ruleset: $(curl -s -m 3 http://127.0.0.1:8080/hostname || echo no answer)"
    # If the table could not be protected from the flush, that is reported, and gc restores it.
    curl -s -m 3 http://127.0.0.1:8080/hostname || { garth check web && fail 'check sees nothing'; }
    garth gc
    equals "$(curl -s -m 3 http://127.0.0.1:8080/hostname)" vm
    garth check web
    garth delete --force web
    eventually bash -c '! nft list tables | grep garth'
}
