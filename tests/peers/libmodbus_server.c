/* A Modbus TCP server made of libmodbus; README.md beside this file says what it holds and how to ask it. */

#include <arpa/inet.h>
#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { UNITS = 3, TABLE = 1000, KNOWN = 100, WRITABLE = 200, FUNCTIONS = 256, CONNECTIONS = 64 };

static modbus_mapping_t *units[UNITS];
static unsigned long counts[256][FUNCTIONS];

static void fail(const char *doing)
{
    fprintf(stderr, "libmodbus_server: cannot %s: %s\n", doing, modbus_strerror(errno));
    exit(1);
}

static uint16_t swapped(uint16_t word)
{
    return (uint16_t) (word >> 8 | word << 8);
}

/* A number of 2 or 4 words in ABCD, CDAB, BADC, DCBA. */
static void put_orders(uint16_t *at, uint64_t bits, int words)
{
    for (int i = 0; i < words; i++) {
        uint16_t word = (uint16_t) (bits >> 16 * (words - 1 - i));
        at[i] = word;
        at[2 * words - 1 - i] = word;
        at[2 * words + i] = swapped(word);
        at[4 * words - 1 - i] = swapped(word);
    }
}

static void put_text(uint16_t *at, const char *text, int words)
{
    for (int i = 0; i < words; i++)
        at[i] = (uint16_t) ((unsigned char) text[2 * i] << 8 | (unsigned char) text[2 * i + 1]);
}

static void put_known(uint16_t *at, int unit)
{
    float single = 123.456f;
    uint32_t single_bits;
    double number = -9876.54321;
    uint64_t bits;

    at[0] = (uint16_t) unit;
    at[1] = 43981;
    at[2] = (uint16_t) -12345;
    at[3] = 1 << 0 | 1 << 3 | 1 << 15;
    put_orders(at + 4, (uint32_t) -123456789, 2);
    put_orders(at + 12, 3456789012u, 2);
    /* Not by modbus_set_float_abcd and its kin: version 3.1.6 stores as "abcd" what everybody else calls BADC. */
    memcpy(&single_bits, &single, sizeof single_bits);
    put_orders(at + 20, single_bits, 2);
    put_orders(at + 28, (uint64_t) -1234567890123456789, 4);
    put_orders(at + 44, 12345678901234567890u, 4);
    memcpy(&bits, &number, sizeof bits);
    put_orders(at + 60, bits, 4);
    put_text(at + 76, "Pump 7 / line A", 8);
    for (int i = 0; i < 8; i++)
        at[84 + i] = swapped(at[76 + i]);
    put_text(at + 92, "21 \xc2\xb5\xc2\xb0" "C", 4);
    at[96] = swapped((uint16_t) -12345);
    at[97] = swapped(43981);
    at[98] = 0;
    at[99] = 65535;
}

static modbus_mapping_t *new_unit(int unit)
{
    modbus_mapping_t *map = modbus_mapping_new(TABLE, TABLE, TABLE, TABLE);
    if (map == NULL)
        fail("allocate the tables");
    put_known(map->tab_registers + KNOWN, unit);
    for (int address = WRITABLE; address < TABLE; address++)
        map->tab_registers[address] = (uint16_t) (unit * 1000 + address);
    memcpy(map->tab_input_registers, map->tab_registers, TABLE * sizeof(uint16_t));
    for (int address = KNOWN; address < TABLE; address++) {
        map->tab_bits[address] = address < WRITABLE && address % 3 == 0;
        map->tab_input_bits[address] = address < WRITABLE ? address % 5 == 0 : address % 2 == 1;
    }
    return map;
}

/* Answers one line of standard input. */
static void answer(const char *line)
{
    char table[16];
    int unit, first, count;

    if (strcmp(line, "counts\n") == 0) {
        const char *separator = "";
        for (int i = 0; i < 256; i++)
            for (int function = 0; function < FUNCTIONS; function++)
                if (counts[i][function] > 0) {
                    printf("%s%d:%d=%lu", separator, i, function, counts[i][function]);
                    separator = " ";
                }
        printf("\n");
    } else if (sscanf(line, "%15s %d %d %d", table, &unit, &first, &count) == 4 && unit >= 1 && unit <= UNITS
               && first >= 0 && count >= 1 && first < TABLE && count <= TABLE - first
               && (strcmp(table, "holding") == 0 || strcmp(table, "coils") == 0)) {
        modbus_mapping_t *map = units[unit - 1];
        for (int i = first; i < first + count; i++)
            printf("%s%d", i == first ? "" : " ", table[0] == 'h' ? map->tab_registers[i] : map->tab_bits[i]);
        printf("\n");
    } else {
        printf("error expected: holding UNIT ADDRESS COUNT, coils UNIT ADDRESS COUNT, or counts\n");
    }
    fflush(stdout);
}

/* Serves one request; returns 0 where the connection has ended. */
static int serve(modbus_t *context, int connection)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    int header = modbus_get_header_length(context);

    modbus_set_socket(context, connection);
    int length = modbus_receive(context, query);
    if (length == -1)
        return 0;
    if (length == 0)
        return 1;
    int unit = query[header - 1];
    counts[unit][query[header]]++;
    if (unit < 1 || unit > UNITS)
        return modbus_reply_exception(context, query, MODBUS_EXCEPTION_GATEWAY_TARGET) != -1;
    return modbus_reply(context, query, length, units[unit - 1]) != -1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: libmodbus_server PORT\n");
        return 2;
    }
    for (int i = 0; i < UNITS; i++)
        units[i] = new_unit(i + 1);

    modbus_t *context = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    if (context == NULL)
        fail("create a context");
    int listener = modbus_tcp_listen(context, CONNECTIONS);
    if (listener == -1)
        fail("listen");
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (getsockname(listener, (struct sockaddr *) &address, &size) == -1)
        fail("read the port");
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);

    fd_set open;
    FD_ZERO(&open);
    FD_SET(STDIN_FILENO, &open);
    FD_SET(listener, &open);
    /* Not stdio: a line in its buffer would be hidden from select. */
    char line[128];
    size_t filled = 0;
    for (;;) {
        fd_set ready = open;
        if (select(FD_SETSIZE, &ready, NULL, NULL, NULL) == -1)
            fail("wait");
        if (FD_ISSET(STDIN_FILENO, &ready)) {
            if (read(STDIN_FILENO, line + filled, 1) <= 0)
                return 0;
            if (line[filled++] == '\n' || filled == sizeof line - 1) {
                line[filled] = '\0';
                filled = 0;
                answer(line);
            }
        }
        if (FD_ISSET(listener, &ready)) {
            int connection = accept(listener, NULL, NULL);
            if (connection >= FD_SETSIZE)
                close(connection);
            else if (connection != -1)
                FD_SET(connection, &open);
        }
        for (int i = 0; i < FD_SETSIZE; i++)
            if (i != STDIN_FILENO && i != listener && FD_ISSET(i, &ready) && !serve(context, i)) {
                FD_CLR(i, &open);
                close(i);
            }
    }
}
