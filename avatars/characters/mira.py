"""Mira: receptionist of a small hotel by the sea, in the warm light of its lobby."""

from __future__ import annotations

from avatars.characters.figure import Figure
from avatars.characters.look import Look
from avatars.characters.stage import Pose
from avatars.characters.svg import Drawing, Points, ellipse, fade, glow, gradient, placed, soft, strands

HAIR, HAIR_LIGHT, HAIR_DARK = "#4a2a20", "#8a5338", "#2b1613"


class Mira(Figure):
    name = "mira"
    look = Look(
        light="#f2c39f",
        skin="#e2a580",
        shade="#c98460",
        deep="#8a4a33",
        blush="#e0664f",
        lip="#b54a4a",
        lip_light="#d4706a",
        iris="#4a2a17",
        iris_light="#96592f",
        brow="#3f231b",
        lash="#26130f",
        lid="#b9785a",
        ears=False,
        folds=0.14,
        bags=0.1,
    )

    def own_definitions(self) -> str:
        return "".join(
            (
                gradient("hair", (f"0 {HAIR_LIGHT}", f".35 {HAIR}", f".7 {HAIR_DARK}", f"1 {HAIR}"), (0.2, 0, 0.7, 1)),
                gradient("hairback", (f"0 {HAIR}", f".6 {HAIR_DARK}", f"1 {HAIR}")),
                gradient(
                    "shine",
                    ("0 #c98d63 0", ".32 #c98d63 .75", ".55 #c98d63 .1", ".82 #a5694a .4", "1 #a5694a 0"),
                    (0, 0, 0, 1),
                ),
                gradient("jacket", ("0 #3b937d", ".5 #226653", "1 #123f35"), (0, 0, 0.7, 1)),
                gradient("lapel", ("0 #358873", "1 #174d40"), (0, 0, 0.5, 1)),
                gradient("blouse", ("0 #e9dccb", ".5 #fff9f0", "1 #efe1cf")),
                glow("gold", ("0 #fff0c4", ".5 #e9b95f", "1 #a87428"), (0.35, 0.3), 0.75),
            )
        )

    def scene(self) -> str:
        draw = Drawing()
        draw.raw(
            "<defs>"
            + gradient("wall", ("0 #f9e3cb", ".55 #efc9a6", "1 #d9a681"), (0, 0, 0.2, 1))
            + gradient("sky", ("0 #fdf0dc", ".6 #fbd9b3", "1 #f6c093"))
            + gradient("sea", ("0 #9fcabf", "1 #5f9a92"))
            + fade("sun", "#fffaf0", 1.0)
            + fade("bokeh", "#ffe6bd", 0.85)
            + fade("leaf", "#2f6b57", 1.0)
            + fade("vignette", "#7a4526", 0.5)
            + soft("b3", 3)
            + soft("b8", 8)
            + soft("b16", 16)
            + "</defs>"
        )
        draw.raw('<rect x="-500" y="-500" width="1512" height="1512" fill="url(#wall)"/>')
        draw.open(filter="b3")
        # A tall window to the sea.
        draw.raw('<rect x="300" y="-460" width="330" height="830" fill="#fff8ec"/>')
        draw.raw('<rect x="312" y="-460" width="306" height="818" fill="url(#sky)"/>')
        draw.raw('<rect x="312" y="262" width="306" height="96" fill="url(#sea)"/>')
        draw.path("M312 268C370 252 420 258 470 266L470 272L312 272Z", "#7fae9f", opacity=0.8)
        draw.path(ellipse(452, 168, 96), "@sun")
        draw.path(ellipse(452, 168, 34), "#fffdf6")
        draw.raw('<rect x="404" y="266" width="96" height="5" rx="2.500" fill="#fff6e4" opacity=".8"/>')
        draw.raw('<rect x="420" y="284" width="70" height="4" rx="2" fill="#fff6e4" opacity=".6"/>')
        draw.raw('<rect x="432" y="306" width="56" height="4" rx="2" fill="#fff6e4" opacity=".45"/>')
        draw.raw('<rect x="460" y="-460" width="7" height="818" fill="#fff3e0"/>')
        draw.raw('<rect x="292" y="356" width="350" height="14" rx="4" fill="#fffaf0"/>')
        # Keys' rack and a lamp at the left.
        draw.raw('<rect x="-300" y="40" width="380" height="300" rx="14" fill="#b97f58" opacity=".55"/>')
        for row in range(3):
            for column in range(7):
                x, y = -284 + column * 52, 58 + row * 92
                draw.raw(f'<rect x="{x}" y="{y}" width="42" height="74" rx="7" fill="#8f5a3c" opacity=".5"/>')
                if (row * 5 + column * 3) % 4:
                    draw.path(ellipse(x + 21, y + 34, 6), "#f2cf8e", opacity=0.9)
        draw.close()
        draw.open(filter="b8")
        draw.path(ellipse(742, 330, 110, 160), "@leaf", opacity=0.75)
        draw.path("M700 420C690 300 660 240 610 200C640 260 660 330 672 420Z", "#3d7a63", opacity=0.8)
        draw.path("M720 420C730 300 760 240 800 190C780 270 760 340 752 420Z", "#2f6b57", opacity=0.8)
        draw.close()
        draw.path(ellipse(40, 60, 210), "@bokeh", opacity=0.8)
        draw.open(filter="b8")
        draw.raw('<rect x="-500" y="392" width="1512" height="600" fill="#8a5a3e"/>')
        draw.raw('<rect x="-500" y="386" width="1512" height="22" fill="#c99a72"/>')
        draw.close()
        for x, y, r, o in (
            (96, 120, 26, 0.5),
            (40, 210, 18, 0.4),
            (140, 60, 14, 0.5),
            (-120, 40, 40, 0.4),
            (640, 90, 26, 0.4),
        ):
            draw.path(ellipse(x, y, r), "#fff0d2", opacity=o, filter="b3")
        draw.path(ellipse(256, 560, 620, 190), "@vignette", opacity=0.8)
        return draw.svg()

    def behind(self, draw: Drawing, pose: Pose) -> None:
        swing = pose.neck(300, 540)
        outline = pose.at(-30)

        def place(points: Points) -> Points:
            return 0.5 * (swing(points) + outline(points))

        back = placed(
            "M256 60C188 58 140 104 139 178C138 220 150 246 140 280C132 306 112 326 122 356C128 376 146 384 160 378"
            "C170 392 190 396 206 390C220 398 292 398 306 390C322 396 342 392 352 378C366 384 384 376 390 356"
            "C400 326 380 306 372 280C362 246 374 220 373 178C372 104 324 58 256 60Z",
            place,
        )
        draw.path(back, "@hairback")
        draw.clip(back)
        for phase, (colour, width, opacity) in enumerate(((HAIR_DARK, 2.4, 0.5), ("#7d4a33", 2.0, 0.5))):
            left = strands(
                "M170 180C170 230 190 270 178 310C170 340 190 366 204 392",
                "M144 170C136 230 158 260 140 296C120 326 124 350 140 380",
                13,
                phase * 3,
                sway=1.2,
            )
            right = strands(
                "M342 180C342 230 322 270 334 310C342 340 322 366 308 392",
                "M368 170C376 230 354 260 372 296C392 326 388 350 372 380",
                13,
                phase * 3 + 1,
                sway=1.2,
            )
            draw.line(placed(left + right, place), colour, width, opacity=opacity)
        # In the shade of the head.
        draw.path(
            placed("M190 240C196 300 200 340 196 400L316 400C312 340 316 300 322 240Z", place),
            "#160a08",
            opacity=0.6,
            filter="soft8",
        )
        # The sun behind her catches the edge of the hair.
        rim = "M300 64C350 82 374 124 373 178C374 220 362 246 372 280C380 306 400 326 390 356C388 364 384 372 376 378"
        draw.line(placed(rim, place), "#ffc48a", 7.0, opacity=0.55, filter="soft2")
        draw.close()

    def clothes(self, draw: Drawing, pose: Pose) -> None:
        body = pose.body()
        draw.path(
            placed("M204 372C220 400 236 440 256 470C276 440 292 400 308 372L344 392L330 520L182 520L168 392Z", body),
            "@blouse",
        )
        draw.path(
            placed("M204 372C218 404 236 440 256 470C250 476 246 482 244 490C222 456 200 420 186 384Z", body), "#fffaf2"
        )
        draw.path(
            placed("M308 372C294 404 276 440 256 470C262 476 266 482 268 490C290 456 312 420 326 384Z", body), "#eadbc7"
        )
        jacket = (
            "M194 368C176 380 132 390 104 404C70 422 56 470 50 560L50 700L462 700L462 560C456 470 442 422 408 404"
            "C380 390 336 380 318 368C312 410 290 470 258 530C222 470 200 410 194 368Z"
        )
        cloth = placed(jacket, body)
        draw.path(cloth, "@jacket")
        draw.clip(cloth)
        draw.path(
            placed("M104 404C84 430 96 480 98 700L50 700L50 560C56 470 70 422 104 404Z", body),
            "#5cb59c",
            opacity=0.22,
            filter="soft4",
        )
        draw.path(
            placed("M408 404C430 430 416 480 414 700L470 700L462 560C456 470 442 422 408 404Z", body),
            "#06231d",
            opacity=0.4,
            filter="soft4",
        )
        edge = "M372 394C388 398 400 400 408 404C442 422 456 470 462 560L462 640"
        draw.line(placed(edge, body), "#ffd7a6", 5.0, opacity=0.5, filter="soft2")
        draw.close()
        draw.path(
            placed(
                "M194 364C178 376 160 384 150 392C150 412 152 428 158 446L184 444L172 462C196 500 226 520 252 536C224 480 204 420 194 364Z",
                body,
            ),
            "#062019",
            opacity=0.35,
            filter="soft4",
        )
        draw.path(
            placed(
                "M194 364C178 376 160 384 150 392C150 412 152 428 158 446L184 444L172 462C196 496 230 516 256 534C224 480 204 420 194 364Z",
                body,
            ),
            "@lapel",
        )
        draw.path(
            placed(
                "M318 364C334 376 352 384 362 392C362 412 360 428 354 446L328 444L340 462C316 496 284 516 256 534C288 480 308 420 318 364Z",
                body,
            ),
            "@lapel",
        )
        draw.path(
            placed(
                "M318 364C334 376 352 384 362 392C362 412 360 428 354 446L328 444L340 462C316 496 284 516 256 534C288 480 308 420 318 364Z",
                body,
            ),
            "#06231d",
            opacity=0.22,
        )
        draw.line(placed("M158 446L184 444L172 462", body), "#0c332a", 1.6, opacity=0.6)
        draw.line(placed("M354 446L328 444L340 462", body), "#0c332a", 1.6, opacity=0.6)
        draw.path(placed("M372 440L410 437L411 449L373 452Z", body), "@gold")

    def hairline(self, draw: Drawing, pose: Pose) -> None:
        shadow = "M168 250C172 190 190 150 236 118C262 140 300 158 322 172C336 190 340 220 340 260L352 90L160 90Z"
        draw.path(placed(shadow, pose.face(0)), self.look.deep, opacity=0.5, filter="soft4")

    def hair(self, draw: Drawing, pose: Pose) -> None:
        place = pose.hair(8)
        side = pose.at(16)
        left = (
            "M234 70C180 76 142 122 141 190C141 232 154 250 147 282C144 306 132 320 139 344C150 352 164 346 172 334"
            "C184 316 176 288 178 262C177 232 178 206 188 182C200 154 220 136 238 112C240 102 238 84 234 70Z"
        )
        right = (
            "M226 70C264 54 330 62 356 112C376 150 371 204 364 240C359 264 366 280 370 300C375 320 382 330 374 346"
            "C360 354 346 346 340 334C328 314 336 290 334 262C336 232 336 206 328 190C296 178 254 146 236 112C228 102 224 86 226 70Z"
        )
        draw.path(placed(right, place), "@hair")
        draw.path(placed(left, place), "@hair")
        draw.line(
            placed(
                strands(
                    "M236 94C276 118 326 130 340 200C350 260 340 300 352 356",
                    "M240 70C304 58 366 116 366 190C352 260 362 300 368 350",
                    16,
                ),
                place,
            ),
            HAIR_DARK,
            1.3,
            opacity=0.3,
        )
        draw.line(
            placed(
                strands(
                    "M236 100C270 140 312 160 332 186C340 240 332 300 344 350",
                    "M236 74C304 62 358 112 360 190C350 260 360 300 366 350",
                    14,
                    3,
                ),
                place,
            ),
            "@shine",
            2.2,
        )
        draw.line(
            placed(
                strands(
                    "M234 96C206 120 184 160 178 210C178 260 184 300 164 360",
                    "M232 74C180 80 148 130 147 200C150 260 156 300 144 352",
                    12,
                ),
                place,
            ),
            HAIR_DARK,
            1.3,
            opacity=0.3,
        )
        draw.line(
            placed(
                strands(
                    "M236 106C212 136 190 160 182 206C178 250 184 300 168 354",
                    "M232 78C180 84 150 134 149 200C152 260 156 300 146 350",
                    12,
                    5,
                ),
                place,
            ),
            "@shine",
            2.2,
        )
        for s in (-1, 1):
            x = 256 + s * 84
            draw.path(placed(ellipse(x, 262, 5), side), "@gold")
