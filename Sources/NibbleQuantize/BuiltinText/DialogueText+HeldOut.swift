extension BuiltinText {
  /// Chat transcripts, arithmetic, tables, notes.
  static let heldOutDialogue = #"""
    user: I have two job offers. One pays 15 % more, the other is a ten-minute walk from home. \#
    How should I compare them?
    assistant: Put both on the same scale. Suppose the better paid job means fifty minutes of \#
    travel each way and the near one ten: that is eighty minutes a day, or about 290 hours over \#
    220 working days. Divide the extra pay after tax by those hours, and subtract the fares. You \#
    now know what you would be paid for each hour on the train. Some people happily read for \#
    that price; others would not do it for three times as much.
    user: And what if I like the people in the second one more?
    assistant: Then give that the weight it deserves. You will spend more waking hours with \#
    colleagues than with almost anyone else, and no formula sets a price on looking forward to \#
    Monday.

    user: Summarise in one sentence: the museum lent its only globe to a school, the school \#
    dropped it, and a pupil's father, who mends violins, glued it so well that the curators \#
    could not find the crack.
    assistant: A globe that a school had borrowed from the museum and dropped was repaired by a \#
    pupil's father, a violin maker, so finely that the curators could not see where it had \#
    broken.

    user: 9 workers lay 270 m of cable in 5 days. How far do 6 workers get in 8 days?
    assistant: One worker lays 270 / (9 × 5) = 6 m a day. Six workers in eight days lay 6 × 6 × \#
    8 = 288 m.

    user: 把下面的话改得更客气：“把门关上。”
    assistant: “麻烦您顺手把门关一下，好吗？谢谢。”

    user: Which of these numbers are prime: 51, 53, 57, 59?
    assistant: 53 and 59. The others are not: 51 = 3 × 17 and 57 = 3 × 19.

    64 - 27 = 37
    19 × 21 = 399
    7! = 5040
    3/8 + 5/12 = 9/24 + 10/24 = 19/24
    2 h 35 min + 50 min = 3 h 25 min
    A price of 80 raised by a quarter is 100; lowered again by a quarter it is 75.
    If y = 2x - 3 and y = x + 4, then x = 7 and y = 11.

    | river | length in km | mouth | dams |
    |:--|--:|:--|--:|
    | Aldra | 212 | lake | 3 |
    | Venn | 87.5 | sea | 0 |
    | Sorrow Beck | 19 | Venn | 1 |

    depart;arrive;line;seats
    06:12;07:40;R3;212
    08:05;09:21;R3;187
    23:58;01:30;N1;64

    — Did you feed the hens? — I fed the hens. — Both hens? — There are two? — There were two.
    Minutes, 14 April: present were the chair, the treasurer and, from item three on, a wasp. \#
    The accounts were approved. The fence will be painted green, by five votes to four; the \#
    minority asks that its preference for a darker green be recorded. Next meeting: 12 May, \#
    indoors.

    """#
}
