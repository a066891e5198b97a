"""Records what transformers renders for chat templates: conversations.json and expressions.json.

Made with Python 3.11, transformers 5.23 and jinja2 3.1.6 (the versions used stand in the files):

    HF_HUB_OFFLINE=1 python make.py

templates/*.jinja have the structure of the templates that the families publish; their wording is
ours, except smollm2.jinja, which is SmolLM2-135M-Instruct's own (Apache-2.0). Each case holds the
rendered text, or the message of raise_exception, or "refused" where Jinja gives any other error.
"""

import datetime
import json
import pathlib
import random
import sys

import jinja2
import transformers
from transformers.utils import chat_template_utils as utils

HERE = pathlib.Path(__file__).parent
NOW = (2026, 3, 5, 15, 4, 9)


class FixedNow(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(*NOW)


utils.datetime = FixedNow


def record(template, variables):
    given = json.loads(json.dumps(variables))
    messages = given.pop("messages", [])
    try:
        rendered, _ = utils.render_jinja_template([messages], chat_template=template, **given)
        return {"output": rendered[0]}
    except jinja2.exceptions.TemplateError as error:
        if type(error) is jinja2.exceptions.TemplateError:
            return {"raised": str(error.message)}
        return {"refused": f"{type(error).__name__}: {error}"}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}


def case(name, template, variables):
    return {"name": name, "template": template, "variables": variables, **record(template, variables)}


# Conversations ------------------------------------------------------------------------------------

def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather at a place.\nIn plain words, with <units> & \"quotes\".",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "A town, such as Zürich or 北京"},
                "days": {"type": "integer", "minimum": 1, "maximum": 1.5e20},
                "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
                "points": {"type": "array", "items": {"type": ["number", "null"]}},
            },
            "required": ["place"],
        },
        "return": {"type": "string"},
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"place": "Zürich", "days": 2}}}
CALL2 = {"id": "123456789", "type": "function", "function": {"name": "clock", "arguments": {}}}

CONVERSATIONS = {
    "one": [user("Hello there")],
    "empty": [],
    "system": [{"role": "system", "content": "  Be brief.\n"}, user(" What is 1 + 1? \n"), assistant("2"), user("And 2 + 2?")],
    "system only": [{"role": "system", "content": "Be brief."}],
    "long": [user("a"), assistant(" b "), user("c\n\nd"), assistant("\n"), user("e\te"), assistant("f")],
    "two users": [user("a"), user("b")],
    "assistant first": [assistant("a"), user("b")],
    "unicode": [user("Grüße, 世界 👋🏽 e\u0301 \u00e9 \u200b"), assistant("</s><|im_end|>{{ 1 }}")],
    "tool call": [user("Weather?"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "sun & \"wind\"", "tool_call_id": "abcdefghi"}, assistant("Sunny."), user("Thanks")],
    "tool call none": [user("Weather?"), assistant(None, tool_calls=[CALL]), {"role": "tool", "content": "{\"t\": 21.5}"}],
    "two calls": [user("Both?"), assistant("Both.", tool_calls=[CALL, CALL2]), {"role": "tool", "content": "sun"}, {"role": "tool", "content": "12:00"}],
    "thinking": [user("Why?"), assistant("<think>\nhm\n</think>\n\nBecause."), user("Really?"), assistant("<think>well</think>Yes.")],
    "reasoning": [user("Why?"), assistant("Because.", reasoning_content="so\nso"), user("And?"), assistant("Thus.", reasoning="\nmore\n")],
    "parts": [user([{"type": "text", "text": " See "}, {"type": "image"}, {"type": "text", "text": "this"}]), assistant("A cat.")],
    "unknown role": [user("a"), {"role": "critic", "content": "b"}],
    "stop": [{"role": "system", "content": "s"}, user(""), user("x y"), assistant("z"), {"role": "stop", "content": "!"}, user("never")],
}


def conversations():
    cases = []
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    options = [
        ("", {}), ("prompt", {"add_generation_prompt": True}),
        ("tools", {"add_generation_prompt": True, "tools": [WEATHER, CLOCK]}),
        ("options", {"tools": [CLOCK], "tools_in_user_message": False, "date_string": "1 May 2025",
                     "enable_thinking": False, "add_generation_prompt": True, "builtin_tools": ["code_interpreter", "weather"]}),
    ]
    for path in sorted((HERE / "templates").glob("*.jinja")):
        template = path.read_text()
        for name, messages in CONVERSATIONS.items():
            for option, variables in options:
                entry = case(f"{path.stem}, {name}, {option}", template, {"messages": messages, **tokens, **variables})
                entry["template"] = path.name
                cases.append(entry)
    return cases


# Small cases --------------------------------------------------------------------------------------

VARIABLES = {
    "messages": [],
    "n": 7, "m": -3, "z": 0, "x": 2.5, "t": True, "f": False, "none_": None,
    "s": "Hello World", "u": "Grüße e\u0301 世界 👋🏽", "e": "", "q": "it's \"so\"\n\t\\", "w": "  a  b\u00a0 ",
    "l": [3, 1, 2], "k": ["b", "A", "c", "a"], "mixed": [1, "a", None, True, 2.0, [1], {"a": 1}], "el": [],
    "d": {"a": 1, "b": [1, 2], "items": "shadowed", "c": None}, "ed": {},
    "users": [{"name": "Eve", "age": 30, "tags": ["x"]}, {"name": "adam", "age": 25, "at": {"home": 1}}, {"name": "Zoë", "age": 30}],
}

EXPRESSIONS = r"""
1 + 2 * 3
(1 + 2) * 3
2 ** 3 ** 2
-2 ** 2
7 // 2
-7 // 2
7 % -3
-7 % 3
7 / 2
6 / 3
7.5 // 2
-7.5 % 2
1e16
1e15
123456789012345.6
1e-5
0.0001
1.5e300
-0.0
0.1 + 0.2
100.0
1_000
0x1F + 0o17 + 0b101
1 / 0
1 % 0
2 ** -1
0 ** -1
2 ** 0.5
'a' ~ 1 ~ none ~ true ~ 1.0 ~ undefined_
'ab' * 3
3 * 'ab'
'ab' * -1
[1] * 2 + [3]
(1, 2) + (3,)
'a' 'b' "c"
'a' + 1
1 + true
true + true
-true
not none
not not 'a'
1 < 2 < 3
1 < 3 < 2
1 == 1.0 == true
'a' < 'b'
'Z' < 'a'
'a' < 1
[1, 2] < [1, 3]
[1, 2] == (1, 2)
none < 1
1 in [1, 2]
'ell' in s
'x' not in s
'' in s
1 in 'abc'
'a' in d
none in mixed
2 in mixed
'a' in undefined_
undefined_ + 1
undefined_ == undefined_
undefined_ ~ 'x'
undefined_.a
undefined_['a']
undefined_|length
undefined_|default('x')
undefined_ is defined
undefined_ < 1
undefined_()
none_.a
none_.a.b
none_ is none
d.a
d['a']
d.missing
d.missing.deeper
d.items
d['items']
d.items()
d.items() | list
d.keys() | list
d.values() | list
d.keys()
d.values() | first
d.get('a')
d.get('zz')
d.get('zz', 5)
d.get('zz', default=5)
d.pop('a')
d.update({})
d
mixed
u
q
[q]
[u]
['it\'s', 'a"b', 'both\'"']
['\x00\x1f\x7f\xa0\u200b\ue000', '\U0001F600', 'tab\t']
{'a': 1, 2: 'b', none: [true]}
{1: 'a', 1.0: 'b', true: 'c'}
{'a': 1,}
[1, 2,]
(1,)
()
(1, 2)
1, 2
'\n\t\\\'\"\x41\u00e9\101\q'
'a\
b'
s[0]
s[-1]
s[99]
s[-99]
s[1:4]
s[:-3]
s[::-1]
s[8:2:-2]
s[::2]
s[::0]
u[6:8]
u|length
u[::-1]
u|reverse
'é' == 'é'
'e\u0301' == '\u00e9'
'\u00e9' in ['e\u0301']
l[0]
l[-1]
l[5]
l[1:]
l[::-1]
l[:2]
l.0
l['0']
(1, 2, 3)[1:]
range(5) | list
range(2, 8, 3) | list
range(5, 0, -2) | list
range(3)[1]
range(0)|length
range(3)[::-1] | list
range(1, 2, 0)
range(200000)
2 in range(3)
dict(a=1, b=2)
dict({'a': 1}, b=2)
dict([('a', 1), ['b', 2]])
namespace(a=1).a
namespace(a=1, b='x')
1 if true else 2
1 if false else 2
1 if false
(1 if false) is undefined
1 if false else 2 if false else 3
'a' or 'b'
'' or 'b'
0 and 1
1 and 2
none or false
e or none or 'last'
not 1 == 2
not (1 in l)
n is odd
n is even
n is divisibleby 7
n is divisibleby(2)
n is number
t is number
t is integer
t is boolean
x is float
n is float
s is string
d is mapping
l is sequence
s is sequence
d is sequence
l is iterable
n is iterable
s is lower
s|lower is lower
'ABC' is upper
'123' is upper
t is true
n is true
f is false
n is eq 7
n is equalto 7
n is ne 7
n is gt 3
n is lessthan(3)
n is in [7, 8]
n is not in [7, 8]
3 in l and 4 not in l
s is sameas s
none_ is sameas none
range is callable
n is defined and n is not none
n is undefined or n
n is unknowntest
n|unknownfilter
s|upper
s|lower
s|title
'hello-world (foo) bar_baz 1st'|title
s|capitalize
'ß'|upper
'éa'|capitalize
w|trim
w|trim|length
'xxaxx'|trim('x')
s|replace('l', 'L')
s|replace('l', 'L', 1)
'abc'|replace('', '-')
'abc'|replace('', '-', 2)
'aaa'|replace('aa', 'b')
s|length
s|count
s|first
s|last
s|list
l|first
el|first
el|last
el|first is undefined
l|last
l|join
l|join(', ')
k|join('-')
users|join(', ', attribute='name')
none_|join
mixed|string
l|sort
l|sort(reverse=true)
k|sort
k|sort(case_sensitive=true)
k|sort(reverse=true)
users|sort(attribute='age')|map(attribute='name')|list
users|sort(attribute='age,name')|map(attribute='name')|list
users|sort(attribute='age', reverse=true)|map(attribute='name')|list
mixed|sort
k|unique|list
[1, 1.0, true, 2]|unique|list
k|min
k|max
l|min
l|max
el|max
users|max(attribute='age')
l|sum
users|sum(attribute='age')
users|sum('age', start=10)
['a']|sum
l|reverse|list
d|list
d|length
d|dictsort
{'b': 1, 'A': 2}|dictsort
{'b': 1, 'A': 2}|dictsort(true)
{'b': 1, 'A': 2}|dictsort(by='value')
{'b': 1, 'A': 2}|dictsort(reverse=true)
d|items|list
undefined_|items|list
l|items
users|map(attribute='name')|join(' ')
users|map(attribute='at.home')|list
users|map(attribute='at.home', default='no')|list
users|map(attribute='tags.0', default='-')|list
k|map('upper')|list
k|map('replace', 'a', 'X')|list
users|selectattr('at')|list|length
users|selectattr('age', 'equalto', 30)|map(attribute='name')|list
users|rejectattr('age', 'gt', 26)|map(attribute='name')|list
users|selectattr('tags', 'defined')|map(attribute='name')|list
users|selectattr('age')|length
(users|selectattr('nope'))|list
true if users|selectattr('nope') else false
(users|selectattr('age')|list)[-1].name
users|selectattr('age')|first
users|selectattr('age')|last
l|select('odd')|list
l|reject('odd')|list
l|select('gt', 1)|list
mixed|select|list
mixed|select('string')|list
l|batch(2)|list
l|batch(2, 0)|list
3.7|int
'42'|int
' 42 '|int
'4_2'|int
'0x1F'|int(base=16)
'ff'|int(0, 16)
'42.7'|int
'abc'|int
'abc'|int(-1)
none_|int
true|int
'1e3'|int
'3.5'|float
'abc'|float
'1_0.5'|float
' 1e3 '|float
n|float
none_|float(1)
-5|abs
(-5)|abs
(-2.5)|abs
2.5|round
3.5|round
2.675|round(2)
2.4|round(method='ceil')
2.45|round(1, 'floor')
n|round
1234.5678|round(2)
n|string + 'x'
'a\nb\n\nc'|indent
'a\nb\n\nc'|indent(2, true)
'a\nb\n\nc'|indent(2, false, true)
'a\nb'|indent('> ')
'<a href="x">\'&'|e
'<b>'|escape
'<b>'|safe
'a b  c'|wordcount
'%s and %r and %d%%'|format('a', 'b', 3)
'%s-%s' % (1, 2)
'%d' % 3.7
'%s' % none
'%s' % [1]
'%s %s' % 'a'
d|tojson
mixed|tojson
q|tojson
u|tojson
u|tojson(ensure_ascii=true)
'<&>\'\x00\x1f\x7f/'|tojson
d|tojson(indent=2)
d|tojson(indent=4, sort_keys=true)
d|tojson(indent='--')
[]|tojson(indent=2)
{}|tojson(indent=2)
[[], {}, [1]]|tojson(indent=1)
d|tojson(separators=(',', ':'))
[1.0, 1e20, 1e-7, true, none, 'x']|tojson
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
(1, 2)|tojson
{(1, 2): 3}|tojson
undefined_|tojson
range(3)|tojson
s.upper()
s.lower().title()
'they\'re bill\'s'.title()
'they\'re bill\'s'|title
s.capitalize()
s.swapcase()
w.strip()
w.lstrip()
w.rstrip()
'xxaxyx'.strip('xy')
s.split()
s.split(' ')
s.split('l')
s.split('l', 1)
'a,b,c'.rsplit(',', 1)
' a  b '.split()
' a  b  c '.split(none, 1)
' a  b  c '.rsplit(maxsplit=1)
'a'.split('')
''.split()
''.split(',')
'a\nb\r\nc\n'.splitlines()
'a\nb'.splitlines(true)
s.startswith('Hell')
s.startswith(('x', 'H'))
s.endswith('ld')
s.endswith(1)
s.replace('o', '0')
s.replace('o', '0', 1)
', '.join(k)
', '.join(l)
s.find('o')
s.find('zz')
s.rfind('o')
u.find('世')
s.index('zz')
s.count('l')
s.count('')
'aXbXc'.partition('X')
'aXbXc'.rpartition('X')
'abc'.partition('z')
'abc'.rpartition('z')
s.removeprefix('Hello ')
s.removesuffix('World')
'12'.isdigit()
'1a'.isalnum()
'ab'.isalpha()
' '.isspace()
'AB'.isupper()
l.index(2)
l.count(1)
l.append(4)
l.nothing
l.nothing()
s.nothing
n.nothing
cycler_
(s|upper)[0:2]
-n|abs
-(n|abs)
s|upper ~ '!'
s ~ '!'|upper
n + x * 2 ~ 'a'
1 ~ 2 + 3
2 * 'a' ~ 'b'
n is odd and m is odd
n is not even
'a' if n is odd else 'b'
l|length > 2
l|length + 1
[n, [m, {'k': (x,)}]]
{'a': {'b': {'c': 1}}}.a.b.c
users[0]['name'][0]
users[-1].name[-1]
users[0].tags[0] ~ users[0].tags[1]
"a" "b" == 'ab'
true == 1
'1' == 1
none == false
[] == []
{} == {}
{'a': [1]} == {'a': [1.0]}
1.0
1.50
1e3
10000000000.0
3 + 4.0
7 // 2.0
loop
loop.index
raise_exception('no: ' ~ n)
raise_exception(none)
strftime_now('%Y-%m-%d')
strftime_now('%d %B %Y %b %m %H:%M:%S %A %a %y %j %p %I %% %-d %e %F %T')
9223372036854775807
1 if 1 if 0 else 2
{{}}
1 +
(1
)
[1, 2
'abc
a b
1 2
is
n is
n |
n.
d[]
f(a=1, 2)
f(a=1, a=2)
"""

STATEMENTS = [
    "{% for i in l %}{{ i }}{% endfor %}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }} {% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
    "{% for i in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(i > 1) }}{% endfor %}",
    "{% for i in l %}{{ loop }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in l %}{% endfor %}",
    "{% for c in s %}{{ c }}.{% endfor %}",
    "{% for c in u %}{{ c }}.{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for i in el %}x{% else %}none{% endfor %}",
    "{% for i in l if i > 1 %}{{ loop.index }}:{{ i }} {% else %}none{% endfor %}",
    "{% for i in l if i > 9 %}{{ i }}{% else %}none{% endfor %}",
    "{% for i in l if loop.first %}{{ i }}{% endfor %}",
    "{% for i in none_ %}{% endfor %}",
    "{% for i in 5 %}{% endfor %}",
    "{% for i in undefined_ %}x{% else %}empty{% endfor %}",
    "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in l %}{% for j in l %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% break %}",
    "{% set a = 1 %}{% for i in l %}{% set a = a + i %}{{ a }} {% endfor %}{{ a }}",
    "{% set ns = namespace(a=1) %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace() %}{{ ns.x }}|{{ ns.x is defined }}{% set ns.x = 1 %}{{ ns.x }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }}",
    "{% set ns = namespace(_a=1) %}",
    "{% set d.a = 1 %}",
    "{% set nowhere.a = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = l %}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set a %}x{{ n }}y{% endset %}{{ a }}|{{ a|length }}",
    "{% set a | upper | replace('X', 'z') %}x{{ n }}y{% endset %}{{ a }}",
    "{% set true = 1 %}",
    "{% if n %}a{% elif m %}b{% else %}c{% endif %}",
    "{% if z %}a{% elif m %}b{% else %}c{% endif %}",
    "{% if z %}a{% elif e %}b{% else %}c{% endif %}",
    "{% if n: %}a{% endif %}",
    "{% if l and d and s and n and x and t %}all{% endif %}{% if el or ed or e or z or none_ or f or undefined_ %}any{% endif %}",
    "{% if t %}{% set a = 1 %}{% endif %}{{ a }}",
    "{% macro f(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(1, c=5) }}{{ f(b=1, a=0) }}{{ f() }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(z=2) }}",
    "{% macro f(a, a2=a) %}{{ a2 }}{% endmacro %}{{ f(4) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}",
    "{% macro f(a) %}{{ a is defined }}{% endmacro %}{{ f() }}{{ f(none) }}",
    "{% macro f() %}{{ n }}{{ g }}{% endmacro %}{% set g = 5 %}{{ f() }}",
    "{% macro f() %}{% set n = 99 %}{{ n }}{% endmacro %}{{ f() }}{{ n }}",
    "{% macro f(k) %}{{ k }}{% if k > 0 %}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro f() %} x {% endmacro %}[{{ f()|trim }}]{{ f() ~ f() }}{{ f }}{{ f.name }}",
    "{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{{ n }}{% endcall %}",
    "{% macro f() %}<{{ caller(1, 2) }}>{% endmacro %}{% call(a, b) f() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro f() %}x{% endmacro %}{% call f() %}in{% endcall %}",
    "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}",
    "{% filter upper %}abc{{ s }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}aaa{% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with %}{% set n = 2 %}{{ n }}{% endwith %}{{ n }}",
    "{% generation %}a{% set q2 = 1 %}{{ q2 }}{% endgeneration %}{{ q2 }}",
    "{% raw %}{{ n }}{% if %}{% endraw %}{{ n }}",
    "{%- raw -%}  {{ n }}  {%- endraw -%}  x",
    "{% raw %}\n  a\n  {% endraw %}\nb",
    "a {# comment #} b",
    "a {#- comment -#} b",
    "a\n  {# comment #}\nb",
    "a\n  {#+ comment +#}\nb",
    "{# {{ n }} {% if %} #}x",
    "{#-#}x",
    "a\n{% if t %}\nb\n{% endif %}\nc",
    "a\n  {% if t %}\n  b\n  {% endif %}\nc",
    "a\n  {%+ if t %}\n  b\n  {% endif +%}\nc",
    "a\n  {%- if t -%}\n  b\n  {%- endif -%}\nc",
    "a \n {{- n -}} \n b",
    "a \n {{ n }} \n b",
    "a\n  {{ n }}\n  b\n",
    "a\n\n",
    "\n\na",
    "a\r\nb\rc{% if t %}\r\nd{% endif %}",
    "  {% if t %}  x  {% endif %}  y",
    "x  {% if t %}  x{% endif %}\n  {% if t %}y{% endif %}",
    "{% if t %}\n{% if t %}\n    x\n{% endif %}\n{% endif %}\ny",
    "{{ n }}\n{{ n }}\n",
    "{{ n }}   {% if t %}x{% endif %}",
    "   {{ n }}\n   {%- if t %}x{% endif %}",
    "\t{% if t %}\tx\n\t{% endif %}",
    "{%if t%}x{%endif%}{{n}}",
    "{{ {'a': {'b': 1}} }}{{ {'a': {'b': 1}}.a }}",
    "{{ '}}' }}{{ \"%}\" }}{% if '%}' %}x{% endif %}",
    "{{-1}}|{{- 1}}|{{+1}}",
    "{ { } } {} {a} % %} }} #}",
    "{{ n -}}   {{- n }}",
    "{{ '{{' }} {{ '{%' }}",
    "x{%- set a = 1 -%} \n y",
    "{% set a = [] %}{% if a == [] %}eq{% endif %}",
    "{% for i in range(3) -%}\n  {{ i }}\n{%- endfor %}",
    "{% for i in range(3) %}\n  {{ i }}\n{% endfor %}\nend",
    "{% for m in users %}{{ m.name }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% for a in l %}{% for b in l %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for a in l %}{% set outer = loop %}{% for b in k %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% set x2 = l|map('string') %}{{ x2|join }}|{{ x2|join }}",
    "{% for a in l recursive %}{{ a }}{% endfor %}",
    "{% if %}{% endif %}",
    "{% if n %}",
    "{% endif %}",
    "{% for %}{% endfor %}",
    "{% for a in l %}",
    "{% for a.b in l %}{% endfor %}",
    "{% unknown %}",
    "{% %}",
    "{{ n",
    "{% if n",
    "{# n",
    "{% raw %}",
    "{% macro f(a=1, b) %}{% endmacro %}",
    "{% macro f %}{% endmacro %}",
    "{% call 5 %}{% endcall %}",
    "{% set %}{% endset %}",
    "{% set a = %}",
    "{% if n %}{% else %}{% else %}{% endif %}",
    "{% if n %}{% endfor %}",
    "{{ n }}}",
    "{{ n }",
    "{{ $ }}",
    "{% block a %}x{% endblock %}",
    "{% set messages = [1] %}{{ messages }}",
    "{{ messages }}{{ tools }}{{ documents }}{{ add_generation_prompt }}",
    "{{ users | tojson }}",
    "{% set a = namespace(l=[]) %}{% for i in l %}{% set a.l = a.l + [i * 2] %}{% endfor %}{{ a.l }}",
    "{% for i in d.b %}{{ i }}{% endfor %}{% for i in d.c %}{% endfor %}",
]


# Random expressions -------------------------------------------------------------------------------

def random_expression(rng, depth):
    leaves = ["n", "m", "z", "x", "t", "f", "none_", "s", "e", "w", "l", "k", "el", "d", "ed", "users", "mixed", "missing",
              "1", "0", "-2", "2.5", "'a'", "'b c'", "''", "true", "none", "[1, 2]", "[]", "{'a': 'b'}", "(1, 'x')", "3"]
    if depth == 0:
        return rng.choice(leaves)

    def sub():
        return random_expression(rng, depth - rng.randint(1, depth))

    kind = rng.randrange(11)
    if kind < 2:
        return f"{sub()} {rng.choice(['+', '-', '*', '/', '//', '%', '~', '+', '~'])} {sub()}"
    if kind == 2:
        return f"{sub()} {rng.choice(['==', '!=', '<', '>', '<=', '>=', 'in', 'not in'])} {sub()}"
    if kind == 3:
        return f"{sub()} {rng.choice(['and', 'or'])} {sub()}"
    if kind == 4:
        return f"({sub()} if {sub()} else {sub()})"
    if kind == 5:
        if rng.randrange(2):
            return f"({sub()})[{rng.choice(['0', '-1', '5', repr('a')])}]"
        # Of a variable: Jinja folds a slice of a constant, and then forgives what it refuses at run time.
        return f"{rng.choice(['s', 'l', 'k', 'n', 'd', 'w', 'none_', 'users'])}[{rng.choice(['1:', ':-1', '::-1', '::2'])}]"
    if kind == 6:
        return f"({sub()}).{rng.choice(['a', 'b', 'name', 'upper()', 'strip()', 'items()', 'split()', 'get(1)', 'index(1)', 'title()', 'count(1)'])}"
    if kind < 9:
        name = rng.choice([
            "length", "first", "last", "list", "string", "tojson", "upper", "title", "trim", "join(', ')", "sort", "int", "float",
            "default('D')", "default('D', true)", "reverse|list", "unique|list", "sum", "min", "max", "abs", "round(1)", "capitalize",
            "map('string')|list", "select|list", "reject('none')|list", "items|list", "dictsort", "replace('a', 'o')", "batch(2)|list",
            "tojson(indent=1)", "indent(2)", "map(attribute='name')|list", "selectattr('age')|list", "selectattr('a', 'defined')|list", "wordcount"])
        return f"({sub()})|{name}"
    if kind == 9:
        test = rng.choice(["defined", "none", "string", "number", "integer", "float", "boolean", "mapping", "iterable", "sequence",
                           "true", "false", "odd", "even", "lower", "upper", "divisibleby 2", "in l", "eq 1", "sameas none"])
        return f"({sub()}) is {rng.choice(['', 'not '])}{test}"
    return rng.choice([f"not {sub()}", f"-{sub()}", f"[{sub()}, {sub()}]", f"{{{rng.choice(['n', 's', 'x', 't', 'none_', 'missing', '1', repr('a')])}: {sub()}}}", f"({sub()},)"])


def expressions():
    cases = []
    lines = EXPRESSIONS.strip("\n").split("\n")
    # One expression of the list holds a line break behind a backslash.
    joined = "\n".join(lines).replace("'a\\\nb'", "'a\\\x00b'").split("\n")
    for line in joined:
        line = line.replace("\x00", "\n")
        cases.append(case("expression", "[{{ " + line + " }}]", VARIABLES))
    for statement in STATEMENTS:
        cases.append(case("statement", statement, VARIABLES))
    rng = random.Random(20260305)
    for _ in range(3000):
        template = "{{ " + random_expression(rng, rng.randint(1, 4)) + " }}"
        cases.append(case("random", template, VARIABLES))
    # An address of Python's memory is no oracle.
    cases = [entry for entry in cases if " at 0x" not in entry.get("output", "")]
    for entry in cases:
        del entry["variables"]
    return cases


def write(name, cases, **more):
    versions = {"python": sys.version.split()[0], "jinja2": jinja2.__version__, "transformers": transformers.__version__}
    with open(HERE / name, "w") as file:
        head = {"versions": versions, "now": NOW, **more}
        file.write(json.dumps(head, ensure_ascii=True)[:-1] + ', "cases": [\n')
        file.write(",\n".join(json.dumps(entry, ensure_ascii=True) for entry in cases))
        file.write("\n]}\n")


write("conversations.json", conversations())
write("expressions.json", expressions(), variables=VARIABLES)
