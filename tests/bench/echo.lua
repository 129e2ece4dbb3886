-- wrk: POST 1 MiB.
wrk.method = "POST"
wrk.body = string.rep("x", 1024 * 1024)
