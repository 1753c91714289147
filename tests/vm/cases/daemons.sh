# as: root
# Daemons that leave root, started in one line and ended by `garth kill`.

nginx() {
    daemon nginx 'curl -sf http://127.0.0.1:8080/' -- \
        -p 8080:80 --rw /var/log/nginx --rw /var/lib/nginx -- /usr/sbin/nginx -g 'daemon off;'
}
redis() {
    daemon redis 'garth exec redis -- redis-cli ping | grep PONG' -- \
        -u redis --rw /var/lib/redis --rw /var/log/redis --run-dir redis -- \
        redis-server /etc/redis/redis.conf --daemonize no
}
memcached() {
    daemon memcached 'printf "stats\r\nquit\r\n" | nc -w 2 127.0.0.1 11211 | grep pid' -- \
        -p 11211:11211 -- /usr/bin/memcached -u memcache -l 0.0.0.0
}
dnsmasq() {
    daemon dnsmasq 'garth exec dnsmasq -- busybox nslookup localhost 127.0.0.1' -- \
        --network private -- /usr/sbin/dnsmasq -k
}
haproxy() {
    daemon haproxy 'garth exec haproxy -- test -S /run/haproxy/admin.sock' -- \
        --network private --rw /var/lib/haproxy --run-dir haproxy -- /usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg
}
sshd() {
    daemon sshd 'ssh-keyscan -p 2222 127.0.0.1 2>/dev/null | grep ssh' -- \
        -p 2222:22 --run-dir sshd -- /usr/sbin/sshd -D -e
}
