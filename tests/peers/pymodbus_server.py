"""A Modbus server made of pymodbus: over TCP, RTU over TCP, TLS or a serial line; README.md beside this file says what it holds and how to ask it."""

import asyncio
import ssl
import struct
import sys
from collections import Counter

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

UNITS = (1, 2, 3)
TABLE = 1000
KNOWN = 100
WRITABLE = 200


def words(raw: bytes) -> list[int]:
    """Registers that hold these bytes, high byte first."""
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def swapped(registers: list[int]) -> list[int]:
    """The same registers with the two bytes of each exchanged."""
    return [(register >> 8) | (register & 0xFF) << 8 for register in registers]


def orders(form: str, value: float) -> list[int]:
    """A number in ABCD, CDAB, BADC, DCBA."""
    straight = words(struct.pack(">" + form, value))
    return straight + straight[::-1] + swapped(straight) + swapped(straight[::-1])


def known(unit: int) -> list[int]:
    """The registers from 100 to 199."""
    text = words(b"Pump 7 / line A\0")
    return (
        [unit, 0xABCD, *words(struct.pack(">h", -12345)), 1 << 0 | 1 << 3 | 1 << 15]
        + orders("i", -123456789)
        + orders("I", 3456789012)
        + orders("f", 123.456)
        + orders("q", -1234567890123456789)
        + orders("Q", 12345678901234567890)
        + orders("d", -9876.54321)
        + text
        + swapped(text)
        + words("21 µ°C".encode())
        + swapped(words(struct.pack(">hH", -12345, 0xABCD)))
        + [0, 65535]
    )


def device(unit: int) -> SimDevice:
    """One unit with four separate tables."""

    def registers() -> list[SimData]:
        start = [(unit * 1000 + address) & 0xFFFF for address in range(WRITABLE, TABLE)]
        return [
            SimData(0, values=[0] * KNOWN, datatype=DataType.REGISTERS, readonly=True),
            SimData(KNOWN, values=known(unit), datatype=DataType.REGISTERS, readonly=True),
            SimData(WRITABLE, values=start, datatype=DataType.REGISTERS),
        ]

    def bits(on) -> list[SimData]:
        values = [on(address) for address in range(TABLE)]
        return [
            SimData(0, values=values[:WRITABLE], datatype=DataType.BITS, readonly=True),
            SimData(WRITABLE, values=values[WRITABLE:], datatype=DataType.BITS),
        ]

    coils = bits(lambda address: KNOWN <= address < WRITABLE and address % 3 == 0)
    discrete = bits(lambda address: address % 2 == 1 if address >= WRITABLE else address >= KNOWN and address % 5 == 0)
    return SimDevice(unit, simdata=(coils, discrete, registers(), registers()))


def make(where: str, host: str, units: list[SimDevice], **options) -> ModbusTcpServer | ModbusTlsServer | ModbusSerialServer:
    """The server that the argument asks for: PORT, rtu:PORT, tls:PORT:CERTIFICATE:KEY or serial:PATH."""
    match where.split(":"):
        case [port]:
            return ModbusTcpServer(units, address=(host, int(port)), **options)
        case ["rtu", port]:
            return ModbusTcpServer(units, framer=FramerType.RTU, address=(host, int(port)), **options)
        case ["tls", port, certificate, key]:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            # Modbus/TCP Security keeps the header of Modbus TCP; the framer that is the default here leaves it out.
            return ModbusTlsServer(
                units, framer=FramerType.SOCKET, address=(host, int(port)), sslctx=context, **options
            )
        case ["serial", path]:
            return ModbusSerialServer(units, framer=FramerType.RTU, port=path, baudrate=19200, **options)
        case _:
            sys.exit("expected PORT, rtu:PORT, tls:PORT:CERTIFICATE:KEY or serial:PATH")


def port_of(server: ModbusTcpServer | ModbusTlsServer | ModbusSerialServer) -> int:
    """Where it listens; 0 on a serial line."""
    return server.transport.sockets[0].getsockname()[1] if hasattr(server.transport, "sockets") else 0


class Faults:
    """What goes wrong with the device, by order of the tests."""

    delay = 0.0
    exceptions: dict[int, ExcCodes] = {}


async def answer(server: ModbusTcpServer, counts: Counter, line: str) -> str:
    """Answers one line of standard input."""
    match line.split():
        case ["exceptions", unit, "off"]:
            Faults.exceptions.pop(int(unit), None)
            return "ok"
        case ["exceptions", unit, code]:
            Faults.exceptions[int(unit)] = ExcCodes(int(code))
            return "ok"
        case ["delay", milliseconds]:
            Faults.delay = int(milliseconds) / 1000
            return "ok"
        case ["counts"]:
            return " ".join(f"{unit}:{function}={count}" for (unit, function), count in sorted(counts.items()))
        case ["holding" | "coils" as table, unit, address, count]:
            function = 3 if table == "holding" else 1
            values = await server.context.async_getValues(int(unit), function, int(address), int(count))
            if isinstance(values, ExcCodes):
                return f"error {values.name}"
            return " ".join(str(int(value)) for value in values[: int(count)])
        case _:
            return "error expected: holding|coils UNIT ADDRESS COUNT, exceptions UNIT CODE|off, delay MS, or counts"


async def main() -> None:
    """Serves until standard input closes."""
    counts: Counter = Counter()

    def count(sending: bool, pdu):
        if not sending:
            counts[pdu.dev_id, pdu.function_code] += 1
        return pdu

    host = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    server = make(sys.argv[1], host, [device(unit) for unit in UNITS], trace_pdu=count)
    core, get_values, set_values = server.context, server.context.async_getValues, server.context.async_setValues

    def refusing(call):
        """Units that are not there fail as behind a gateway, not with the device's own failure."""

        async def checked(unit, *args):
            if unit not in UNITS:
                raise NoSuchIdException(f"no unit {unit}")
            if Faults.delay:
                await asyncio.sleep(Faults.delay)
            if unit in Faults.exceptions:
                return Faults.exceptions[unit]
            return await call(unit, *args)

        return checked

    core.async_getValues, core.async_setValues = refusing(get_values), refusing(set_values)

    await server.serve_forever(background=True)
    print("listening", port_of(server), flush=True)

    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            reply = await answer(server, counts, line)
        except Exception as error:  # noqa: BLE001 - whoever asks gets to see it
            reply = f"error {error!r}"
        print(reply, flush=True)
    await server.shutdown()


asyncio.run(main())
