extension BuiltinText {
  /// Chat transcripts, arithmetic, tables, notes.
  static let calibrationDialogue = #"""
    user: My sourdough rises well on the counter, but spreads flat as soon as I tip it out of \#
    the basket. What am I doing wrong?
    assistant: Three causes are common. The dough may have fermented too long, so that the \#
    gluten is already weakening: try shaping it an hour earlier, when it has grown by about half \#
    and not doubled. It may be too wet for your flour; take away 20 g of water per 500 g of \#
    flour and see whether it holds. Or the outer skin was not tight enough: after the first \#
    shaping let it rest for twenty minutes and then draw it towards you on a bare counter until \#
    the surface feels like a drum. Change one thing at a time, or you will not know which of \#
    them helped.
    user: It did smell quite sour.
    assistant: Then I would begin with the time. A sharp smell and a surface full of large, \#
    slack bubbles both point to fermentation that went too far.

    user: Translate into French, please: "The last train leaves at a quarter to midnight from \#
    platform nine."
    assistant: « Le dernier train part à minuit moins le quart, voie neuf. »
    user: And German?
    assistant: „Der letzte Zug fährt um Viertel vor zwölf in der Nacht von Gleis neun ab.“

    user: A rectangular tank is 1.2 m long, 0.5 m wide and holds 360 litres. How high is the \#
    water?
    assistant: 360 litres are 0.36 cubic metres. The floor of the tank measures 1.2 × 0.5 = 0.6 \#
    square metres. The height is volume over area: 0.36 / 0.6 = 0.6. The water stands 0.6 m, or \#
    60 cm, high.

    user: 请用一句话解释什么是通货膨胀。
    assistant: 通货膨胀是指一段时间内物价总水平持续上涨，同样多的钱能买到的东西变少了。

    user: Write a function in Python that returns the second largest number of a list, without \#
    sorting it.
    assistant: The function keeps the two largest different values seen so far.
    def second_largest(numbers):
        first = second = None
        for number in numbers:
            if first is None or number > first:
                first, second = number, first
            elif number != first and (second is None or number > second):
                second = number
        if second is None:
            raise ValueError("fewer than two different numbers")
        return second
    It reads the list once, so its time grows in proportion to the length.

    17 + 25 = 42
    408 - 179 = 229
    36 × 14 = 504
    1001 / 7 = 143
    2^10 = 1024
    5/6 - 1/4 = 10/12 - 3/12 = 7/12
    15 % of 240 is 36, and 240 less 15 % is 204.
    If 3x + 7 = 31, then 3x = 24 and x = 8.
    x² - 5x + 6 = (x - 2)(x - 3), so the roots are 2 and 3.
    The mean of 4, 8, 15, 16, 23 and 42 is 108 / 6 = 18; the median is 15.5.
    sin 30° = 0.5, cos 60° = 0.5, tan 45° = 1.

    | station | opened | platforms | passengers a day | lift |
    |---------|-------:|----------:|-----------------:|:----:|
    | Quarry Lane | 1931 | 2 | 4,870 | no |
    | Upper Mill | 1954 | 4 | 21,300 | yes |
    | Saint Brannoc | 1907 | 6 | 38,915 | yes |
    | Ferry Point | 2012 | 1 | 960 | yes |

    name;harvest_kg;price_per_kg;sold
    Boskoop;1240.5;1.35;0.92
    Gravenstein;318.0;2.10;1.00
    Quince;77.25;3.80;0.64

    Is it true that the ferry takes bicycles? — Yes, but not on Sundays, and not if there are \#
    more than twelve. — And if I am the thirteenth? — Then you wait, or you learn to row.
    Whose turn is it to lock up? Not mine; I did Monday, Tuesday and, because somebody was \#
    "ill", Wednesday.

    Checklist before the climb: rope (60 m, dry), six slings, two spare carabiners, helmet for \#
    everybody, head torch with fresh batteries, half a litre of water an hour, map 14 and a \#
    compass that has not been kept next to the magnet again. Tell the hut when you leave; tell \#
    the hut when you are back.

    From: operations. To: all. Subject: power on Saturday. Between 06:00 and 09:30 the building \#
    will be without power while the transformer is replaced. Please shut down what can be shut \#
    down on Friday evening. The freezers on level two run on the generator, as does the server \#
    room; the lifts do not. Questions to extension 4417.

    """#
}
