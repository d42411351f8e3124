"""A driver for sensors that speak one line at a time, over TCP or a serial line.

Small and whole, so that it can be the first driver that one reads, and what `bulkhead new` begins with. The same driver in Rust stands
in `channels/line`.

The protocol: lines of ASCII that end in CR LF, at most 80 bytes with it. The sensor speaks only when asked, and answers each line with
one:

    READ temp       OK 21.5     or  ERR 4 probe broken
    SET limit 30    OK          or  ERR 5 at most 120

The codes of errors: 1 not understood, 2 no such name, 3 cannot be set, 4 the sensor has failed, 5 out of range.

`protocol` writes questions and takes answers apart; `point` turns the text of an answer into a value of a tag's type; `driver` puts
them together. What is left out: more than one sensor on a line, since the protocol has no addresses. Each sensor is a channel.
"""

from bulkhead_sdk import export

from .driver import LineDriver

Component = export(LineDriver)
