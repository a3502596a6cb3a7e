/* An empty set of ICU data: an archive ("CmnD", unicode/udata.h) whose table of contents has no entries. A lookup finds
 * nothing and ICU reports a missing file, which callers handle. */

struct header {
    unsigned short header_size;
    unsigned char magic1, magic2;
    unsigned short info_size, reserved;
    unsigned char big_endian, charset_family, char_size, reserved2;
    unsigned char format[4], format_version[4], data_version[4];
    unsigned int count; /* of entries, right behind the header */
};

__attribute__((visibility("default"), aligned(16))) const struct header NAME = {
    .header_size = __builtin_offsetof(struct header, count),
    .magic1 = 0xda,
    .magic2 = 0x27,
    .info_size = 20,
    .big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__,
    .charset_family = 0, /* ASCII */
    .char_size = 2,
    .format = {'T', 'o', 'C', 'P'},
    .format_version = {1, 0, 0, 0},
    .count = 0,
};
