"""A server that begins TLS when asked, made of Python's ssl: `STARTTLS` is answered by `ready`, and everything else by `echo TEXT`.

Usage: starttls_server.py CERT KEY [--slip TEXT]. With --slip it sends TEXT in plain right after `ready`, as somebody on the wire might.
Prints `listening PORT`, then a line for each line that comes: `plain TEXT` or `tls TEXT`.
"""

import socket
import ssl
import sys
import threading


def serve(plain, context, slip):
    kind, stream = "plain", plain
    rest = b""
    while True:
        try:
            piece = stream.recv(4096)
        except OSError:
            return
        if not piece:
            return
        rest += piece
        while b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            text = line.decode()
            print(kind, text, flush=True)
            if text == "STARTTLS" and kind == "plain":
                stream.sendall(b"ready\n" + slip)
                try:
                    stream = context.wrap_socket(plain, server_side=True)
                except OSError as error:
                    print("failed", error, flush=True)
                    return
                kind = "tls"
            else:
                stream.sendall(b"echo " + line + b"\n")


def main():
    cert, key = sys.argv[1:3]
    slip = sys.argv[4].encode() if len(sys.argv) > 4 else b""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))
    print("listening", listener.getsockname()[1], flush=True)
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=serve, args=(plain, context, slip), daemon=True).start()


main()
