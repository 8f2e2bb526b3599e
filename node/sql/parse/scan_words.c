/*
 * scan_words.c -- the words that matter to scan_statement.c and geo.c, by first letter.
 *
 * Most words of a statement are names; they leave after a handful of comparisons. RESERVED are
 * PostgreSQL 15's reserved words and those of other classes that may stand before a signed number.
 */
#include "node/sql/parse/scan_words.h"

struct word {
    const char *text; /* NULL: the end of the list. */
    uint32_t size;
    uint32_t flags;
};

/* Short names for the table below. */
enum {
    RESERVED = SCAN_WORD_RESERVED,
    OPENS = SCAN_WORD_OPENS,
    UNUSUAL = SCAN_WORD_UNUSUAL,
    TARGETS = SCAN_WORD_TARGETS,
    PLAIN = SCAN_WORD_PLAIN,
    PINS = SCAN_WORD_PINS,
    MATCHES = SCAN_WORD_MATCHES,
    MODIFIED = SCAN_WORD_MODIFIED,
    OURS = SCAN_WORD_OURS,
    AS = SCAN_WORD_AS,
    ATOMIC = SCAN_WORD_ATOMIC,
    BEGIN = SCAN_WORD_BEGIN,
    CASE = SCAN_WORD_CASE,
    END = SCAN_WORD_END,
    DISTINCT = SCAN_WORD_DISTINCT,
    EXTRACT = SCAN_WORD_EXTRACT,
    FROM = SCAN_WORD_FROM,
    INTO = SCAN_WORD_INTO,
    TIME = SCAN_WORD_TIME,
    WITH = SCAN_WORD_WITH,
};

#define W(text, flags)                              \
    {                                               \
        (text), sizeof(text) - 1, (uint32_t)(flags) \
    }
#define WORDS(...) ((const struct word[]){__VA_ARGS__, {(const char *)0, 0, 0}})

static const struct word *const words[26] = {
    ['a' - 'a'] =
        WORDS(W("all", RESERVED | OPENS), W("alter", OURS), W("analyse", RESERVED),
              W("analyze", RESERVED), W("and", RESERVED | OPENS), W("any", RESERVED | OPENS),
              W("array", RESERVED), W("as", RESERVED | AS), W("asc", RESERVED),
              W("asymmetric", RESERVED), W("atomic", ATOMIC), W("authorization", RESERVED)),
    ['b' - 'a'] = WORDS(W("backup", OURS), W("begin", BEGIN), W("between", RESERVED | OPENS),
                        W("both", RESERVED), W("by", OPENS)),
    ['c' - 'a'] = WORDS(W("cancel", OURS), W("case", RESERVED | OPENS | CASE), W("cast", RESERVED),
                        W("changefeed", OURS), W("check", RESERVED), W("cluster", OURS),
                        W("collate", RESERVED), W("collation", RESERVED), W("column", RESERVED),
                        W("concurrently", RESERVED), W("constraint", RESERVED),
                        W("create", RESERVED), W("cross", RESERVED), W("current_catalog", RESERVED),
                        W("current_date", RESERVED), W("current_role", RESERVED),
                        W("current_schema", RESERVED), W("current_time", RESERVED | MODIFIED),
                        W("current_timestamp", RESERVED | MODIFIED), W("current_user", RESERVED)),
    ['d' - 'a'] = WORDS(W("default", RESERVED), W("deferrable", RESERVED), W("desc", RESERVED),
                        W("distinct", RESERVED | OPENS | MATCHES | DISTINCT), W("do", RESERVED)),
    ['e' - 'a'] = WORDS(W("else", RESERVED | OPENS), W("end", RESERVED | END),
                        W("except", RESERVED | UNUSUAL), W("extract", EXTRACT)),
    ['f' - 'a'] = WORDS(W("false", RESERVED), W("fetch", RESERVED | PINS),
                        W("for", RESERVED | PLAIN), W("foreign", RESERVED), W("freeze", RESERVED),
                        W("from", RESERVED | OPENS | PLAIN | FROM), W("full", RESERVED)),
    ['g' - 'a'] =
        WORDS(W("grant", RESERVED), W("group", RESERVED | PINS | MATCHES), W("grouping", UNUSUAL)),
    ['h' - 'a'] = WORDS(W("having", RESERVED | OPENS | PINS | MATCHES)),
    ['i' - 'a'] = WORDS(W("ilike", RESERVED), W("in", RESERVED | OPENS), W("initially", RESERVED),
                        W("inner", RESERVED), W("intersect", RESERVED | UNUSUAL),
                        W("into", RESERVED | INTO), W("is", RESERVED), W("isnull", RESERVED)),
    ['j' - 'a'] = WORDS(W("join", RESERVED)),
    ['l' - 'a'] =
        WORDS(W("lateral", RESERVED), W("leading", RESERVED), W("left", RESERVED),
              W("like", RESERVED), W("limit", RESERVED | OPENS | PINS), W("locality", OURS),
              W("localtime", RESERVED | MODIFIED), W("localtimestamp", RESERVED | MODIFIED)),
    ['n' - 'a'] = WORDS(W("natural", RESERVED), W("not", RESERVED | OPENS), W("notnull", RESERVED),
                        W("null", RESERVED)),
    ['o' - 'a'] = WORDS(W("offset", RESERVED | OPENS | PINS), W("on", RESERVED | OPENS),
                        W("only", RESERVED), W("operator", UNUSUAL), W("or", RESERVED | OPENS),
                        W("order", RESERVED | PINS | MATCHES), W("outer", RESERVED),
                        W("over", UNUSUAL), W("overlaps", RESERVED), W("overriding", UNUSUAL)),
    ['p' - 'a'] = WORDS(W("pause", OURS), W("placement", OURS), W("placing", RESERVED),
                        W("primary", RESERVED)),
    ['r' - 'a'] = WORDS(W("references", RESERVED), W("region", OURS), W("regions", OURS),
                        W("residency", OURS), W("restore", OURS), W("resume", OURS),
                        W("returning", RESERVED | OPENS | TARGETS), W("right", RESERVED)),
    ['s' - 'a'] = WORDS(W("second", MODIFIED), W("select", RESERVED | OPENS | TARGETS),
                        W("session_user", RESERVED), W("set", OPENS | PLAIN), W("show", OURS),
                        W("similar", RESERVED), W("some", RESERVED | OPENS), W("survive", OURS),
                        W("symmetric", RESERVED), W("system", UNUSUAL | OURS)),
    ['t' - 'a'] = WORDS(W("table", RESERVED), W("tablesample", RESERVED | UNUSUAL),
                        W("then", RESERVED | OPENS), W("time", TIME), W("to", RESERVED),
                        W("trailing", RESERVED), W("true", RESERVED)),
    ['u' - 'a'] = WORDS(W("uescape", UNUSUAL), W("union", RESERVED | UNUSUAL),
                        W("unique", RESERVED), W("user", RESERVED), W("using", RESERVED)),
    ['v' - 'a'] = WORDS(W("values", RESERVED | OPENS | PLAIN), W("variadic", RESERVED),
                        W("verbose", RESERVED)),
    ['w' - 'a'] = WORDS(W("when", RESERVED | OPENS), W("where", RESERVED | OPENS | PLAIN),
                        W("window", RESERVED | UNUSUAL), W("with", RESERVED | WITH)),
    ['x' - 'a'] = WORDS(W("xmlelement", UNUSUAL), W("xmlforest", UNUSUAL), W("xmlparse", UNUSUAL),
                        W("xmlpi", UNUSUAL), W("xmlroot", UNUSUAL), W("xmlserialize", UNUSUAL),
                        W("xmltable", UNUSUAL)),
};

/* `word` is in lower case and of the same size. */
static bool same_folded(const uint8_t *text, const char *word, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        const uint8_t c = text[i];

        if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != (uint8_t)word[i]) {
            return false;
        }
    }
    return true;
}

uint32_t scan_word_flags(struct bytes text, struct scan_token t)
{
    const uint32_t size = t.end - t.start;
    uint8_t letter;

    if (t.kind != SCAN_WORD) {
        return 0;
    }
    letter = (uint8_t)((text.ptr[t.start] | 0x20) - 'a');
    if (letter >= 26 || words[letter] == NULL) {
        return 0;
    }
    for (const struct word *w = words[letter]; w->text != NULL; w++) {
        if (w->size == size && same_folded(text.ptr + t.start, w->text, size)) {
            return w->flags;
        }
    }
    return 0;
}
